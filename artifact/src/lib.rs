//! OCI artifacts: push and pull by tag and digest, pull secrets, module inspection.
