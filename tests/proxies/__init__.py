"""`doctor` behind real proxies that are set up as they should not be. Takes minutes: `make test-slow`."""
