//! What the API server said, in words for people.

/// Its message alone; kube's own text repeats it with every field of the answer.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}
