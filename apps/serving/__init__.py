"""What stands between a request and a bundle: queues, limits, measurements and routes."""
