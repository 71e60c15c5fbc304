"""Decodes image files, whoever made them: headers without a pixel, pixels as sRGB, and a budget of memory."""
