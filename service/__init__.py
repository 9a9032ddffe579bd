"""The same verbs over the network: server, jobs, client, command line, pages."""

import os

# grpc's C core reports every closed connection on standard error unless told before its import
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
