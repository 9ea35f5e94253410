"""Pairs of blurry and sharp pictures: layout, sample set, preparation and crops."""
