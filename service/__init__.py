"""The same verbs over the network: server, jobs, client, command line, pages."""
