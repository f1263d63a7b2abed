"""The authorization server of the PyPI package mcp-oauth, whose login page takes a posted form.

It needs mcp<2, so tests/test_loopback.py starts this file in an environment of its own:
uv run --no-project --with mcp-oauth --with "mcp<2" python tests/servers/oauth_form_server.py PORT
"""

import sys

from mcp_oauth import QuickOAuthServerHost

QuickOAuthServerHost(oauth_host="127.0.0.1", oauth_port=int(sys.argv[1]), superusername="ada",
                     superuserpassword="a posted password").run_oauth_server()
