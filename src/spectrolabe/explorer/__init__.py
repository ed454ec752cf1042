"""Explorer: a local page of a catalogue, with spectrum, model and posterior of each star."""

from spectrolabe.explorer.data import Explored
from spectrolabe.explorer.page import write_page
from spectrolabe.explorer.server import Explorer, serve

__all__ = ["Explored", "Explorer", "serve", "write_page"]
