"""Who made it, who signed it, what is in it: files, signatures and the origin of samples."""
