// An authorization server, and its pages for a person: oidc-provider, which we didn't write.
//
//     node oidc_provider.cjs PATH_OF_OIDC_PROVIDER PORT SCOPE ...
//
// It keeps everything in memory, gives tokens for the server that a client names (RFC 8707), and
// rotates refresh tokens, as it does by default. It prints its address (PORT 0: any), and then a
// line for each thing that happens. A number on standard input sets its clock forward by so many
// hours; the end of standard input ends it.
'use strict';
const http = require('node:http');
const readline = require('node:readline');
const { pathToFileURL } = require('node:url');
const [oidcProvider, port, ...scopes] = process.argv.slice(2);
console.info = console.error; // so that what we tell stands alone on standard output
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const start = async (server) => {
  const { Provider } = await import(pathToFileURL(oidcProvider));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    scopes: ['offline_access', ...scopes],
    clients: [{ // the MCP server, which asks what a token is good for (RFC 7662)
      client_id: 'sheets-server', client_secret: 'a secret of the server',
      redirect_uris: [], response_types: [], grant_types: [],
    }],
    cookies: { keys: ['a secret of the authorization server'] },
    features: {
      registration: { enabled: true },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ scope: scopes.join(' '), accessTokenFormat: 'opaque' }),
      },
    },
  });
  provider.on('registration_create.success', (ctx, client) => tell(
    { what: 'registered', client: client.clientName }));
  provider.on('grant.success', (ctx) => tell({ what: ctx.oidc.params.grant_type }));
  provider.on('refresh_token.consumed', (token) => tell({ what: 'used up', token: token.jti }));
  provider.on('refresh_token.saved', (token) => tell({ what: 'given out', token: token.jti }));
  for (const kind of ['authorization', 'grant']) {
    provider.on(`${kind}.error`, (ctx, error) => tell({ what: error.error }));
  }
  server.on('request', provider.callback());
  tell({ what: 'listening', issuer });
};

const { now } = Date;
let later = 0;
Date.now = () => now() + later;
readline.createInterface({ input: process.stdin })
  .on('line', (hours) => { later += hours * 3_600_000; tell({ what: 'later' }); })
  .on('close', () => process.exit());
const server = http.createServer();
server.listen(Number(port), '127.0.0.1', () => start(server));
