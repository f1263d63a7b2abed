"""The authorization server of the PyPI package mcp-oauth, whose login page takes a posted form.

It needs mcp<2, so tests/test_loopback.py starts this file in an environment of its own:
uv run --no-project --with mcp-oauth --with "mcp<2" python tests/servers/oauth_form_server.py

It prints its port. (It takes a free one at the last moment: until the environment is there, the
port could be somebody else's.)
"""

import socket

from mcp_oauth import QuickOAuthServerHost

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
print(port, flush=True)
QuickOAuthServerHost(oauth_host="127.0.0.1", oauth_port=port, superusername="ada",
                     superuserpassword="a posted password").run_oauth_server()
