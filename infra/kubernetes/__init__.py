"""What runs in a cluster, as typed manifests."""
