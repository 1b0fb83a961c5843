"""What the systems share: backbones, the processor's protocol, and the recognition loop."""
