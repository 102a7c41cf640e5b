"""The forward model: from labels to the pixels of a spectrograph, stage by stage."""
