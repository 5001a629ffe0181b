"""NAS-Bench-201, also known as the topology space of NATS-Bench."""
