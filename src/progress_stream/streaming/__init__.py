"""From the store to open connections: what a watcher is to get next (pure), and the hub that moves it (asyncio)."""
