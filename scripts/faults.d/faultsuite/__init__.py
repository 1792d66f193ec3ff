"""The frame of the fault suite: everything that a row needs besides its fault and its bar."""
