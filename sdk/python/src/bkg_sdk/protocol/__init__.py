"""The bus protocol without sockets, clocks or tasks: messages, names, and the two halves of a session.

The counterpart of the Rust crate `bkg-protocol`, file by file. The SDK stands on the plugin's half, the
test host on the host's; plugins need neither. Nothing here imports from the rest of the package.
"""
