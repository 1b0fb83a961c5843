"""Darknet-53 with YOLOv3's feature pyramid, an image backbone for grounding."""
