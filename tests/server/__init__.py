"""The serving process over real sockets: what a connection may cost, what a hand-over keeps, how it all ends."""
