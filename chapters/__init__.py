"""What chat.py leaves out: one idea per file. Read them in any order, or never.

Each chapter answers one question, shows what travels, names its page of the specification, says
what it leaves out, and ends with a few lines to try. No chapter imports chat.py. Where one works on
a connection or on a chat, it is handed one.

What everything stands on

    outside               what may we believe of what comes from there, and what may we show?
    events                what does a turn tell while it happens?
    jobs                  how do we wait for several things at the same time?
    inboxes               how do we wait for one answer, when anything may come, or nothing?

Between us and a server

    server_sent_events    how does an answer arrive that isn't finished yet?
    http_session          what does `requests` do for us, and what do we add to it?
    failures              what does it mean when no answer comes back, and may we ask again?
    stdio                 how do we talk to a server that is a program on this computer?
    trace                 what travels between us and the servers?
    tour                  how does a program stop at each message, when threads carry them?
    older_servers         what do they do over HTTP that new ones don't?

The protocol

    versions              which generation of MCP does a server speak?
    header_arguments      how does a machine on the way know where a call belongs?
    lists                 what does a server have, and how long is that true?
    elicitation           what if a server wants to know something from you?
    forms                 how does somebody fill in a form in a terminal?
    resources             what does a server have besides tools?

Signing in (below oauth_handler.py, the second story)

    addresses             where may we go, when a stranger names the place?
    challenges            what does a server say about signing in, and what if it doesn't say?
    loopback              how does an answer get from your browser into a program?
    token_file            how do several programs keep secrets in one file?

The model

    tools                 what happens to a tool on its way between a server and a model?
    model_service         how do we ask a model, and what if its service says no?
    replies               how do the pieces of a model's reply become one message?

The person

    settings              what if mcp_servers.json isn't as it should be?
    screen                how does a turn look in a terminal?
    wrapping              how does an answer look while it is still being written?
    commands              what can you type besides a question?
    command_line          what was asked for, and how does the program end?
"""
