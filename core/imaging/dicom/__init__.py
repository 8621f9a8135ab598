"""Reading DICOM files: header, tags, views, codestreams, frames, the grey scale, and all of it together (`read`)."""
