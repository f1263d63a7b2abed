// A server without a host in its listen() can be reached by the whole network. With
// `node --require loopback.cjs server.js` it can be reached from this computer only,
// and says on standard error where.
'use strict';
const { Server } = require('node:net');
const listen = Server.prototype.listen;

Server.prototype.listen = function (...args) {
  const [first, second] = args;
  if (first !== null && typeof first === 'object') {
    if (first.port !== undefined) args[0] = { ...first, host: '127.0.0.1' };
  } else if (first === undefined || typeof first === 'function') {
    args.splice(0, first === undefined ? 1 : 0, 0, '127.0.0.1'); // any port
  } else if (typeof second === 'string') {
    args[1] = '127.0.0.1';
  } else {
    args.splice(1, 0, '127.0.0.1');
  }
  this.once('listening', () => {
    const { address, port } = this.address();
    process.stderr.write(`Listening on http://${address}:${port}/mcp\n`);
  });
  return listen.apply(this, args);
};
