"""Running on a cluster: a launcher's configuration, jobs, and what is special about them."""
