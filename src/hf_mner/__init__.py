"""Named entity recognition on posts that come with an image."""
