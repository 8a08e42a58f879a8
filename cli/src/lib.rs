//! The portcullis command line.
