// The suite's servers listen without a host, so the whole network could reach them. This hook
// (node --require) gives them one. It sits below listen(), since the suite asks for the port
// right after that, and a host in listen() would only be looked up later.
'use strict';
const { Server } = require('node:net');
const below = Server.prototype._listen2;

Server.prototype._listen2 = function (host, port, type, ...rest) {
  return host || !(port >= 0) ? below.call(this, host, port, type, ...rest)
    : below.call(this, '127.0.0.1', port, 4, ...rest);
};
