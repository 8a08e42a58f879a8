//! Reads the form that carries a module: `curl -F name=NAME -F file=@FILE`.

use bytes::Bytes;
use futures::Stream;
use http::header::{CONTENT_TYPE, HeaderMap};
use multer::{Constraints, Multipart, SizeLimit};
use thiserror::Error;

/// Largest module that is taken: what the operator takes from a registry by default.
pub const MODULE_MAX: u64 = 4 * 1024 * 1024;
const NAME_MAX: u64 = 253;

/// A module with the name that it was given.
#[derive(Debug, PartialEq)]
pub struct Upload {
    /// Name of the rule.
    pub name: String,
    /// The module.
    pub file: Bytes,
}

/// Why a form was not taken.
#[derive(Debug, Error)]
pub enum UploadError {
    /// Not multipart/form-data.
    #[error("expected multipart/form-data with the fields name and file, found {0}")]
    NotAForm(String),
    /// Too large, cut off, or with other fields.
    #[error("{0}")]
    Form(#[from] multer::Error),
    /// A field is missing.
    #[error("expected the fields name and file, {0} is missing")]
    Missing(&'static str),
    /// Not a name of a rule.
    #[error("expected a name of at most {NAME_MAX} lower-case letters, digits, '-' and '.', found {0:?}")]
    Name(String),
}

/// Reads a form from a request.
pub async fn read<S, E>(headers: &HeaderMap, body: S) -> Result<Upload, UploadError>
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("nothing");
    let boundary =
        multer::parse_boundary(content_type).map_err(|_| UploadError::NotAForm(content_type.to_owned()))?;
    let sizes = SizeLimit::new()
        .whole_stream(MODULE_MAX + 64 * 1024)
        .for_field("name", NAME_MAX)
        .for_field("file", MODULE_MAX);
    let constraints = Constraints::new().allowed_fields(vec!["name", "file"]).size_limit(sizes);
    let mut form = Multipart::with_constraints(body, boundary, constraints);
    let (mut name, mut file) = (None, None);
    while let Some(field) = form.next_field().await? {
        match field.name() {
            Some("name") => name = Some(field.text().await?),
            _ => file = Some(field.bytes().await?),
        }
    }
    let name = name.ok_or(UploadError::Missing("name"))?;
    let file = file.ok_or(UploadError::Missing("file"))?;
    if !is_name(&name) {
        return Err(UploadError::Name(name));
    }
    Ok(Upload { name, file })
}

/// As Kubernetes names objects (RFC 1123 subdomain), so that answers and logs show it as it is.
fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() as u64 <= NAME_MAX
        && name.bytes().all(inner)
        && outer(name.as_bytes().first())
        && outer(name.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_form(fields: &[(&str, &[u8])]) -> Result<Upload, UploadError> {
        let mut body = Vec::new();
        for (name, value) in fields {
            body.extend_from_slice(
                format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--B--\r\n");
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, "multipart/form-data; boundary=B".parse().unwrap())]);
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            body.chunks(1000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        read(&headers, futures::stream::iter(chunks)).await
    }

    #[tokio::test]
    async fn a_form_with_name_and_file_is_read() {
        let upload = read_form(&[("name", b"bad-bot.v1"), ("file", b"\0asm")]).await.unwrap();
        assert_eq!(upload, Upload { name: "bad-bot.v1".into(), file: Bytes::from_static(b"\0asm") });
    }

    #[tokio::test]
    async fn a_form_that_is_too_large_or_incomplete_is_refused_with_the_reason() {
        let large = vec![0; usize::try_from(MODULE_MAX).unwrap() + 1];
        let error = read_form(&[("name", b"a"), ("file", &large)]).await.unwrap_err().to_string();
        assert!(error.contains("exceeded"), "{error}");
        let error = read_form(&[("name", b"a")]).await.unwrap_err().to_string();
        assert!(error.contains("file is missing"), "{error}");
        for name in [&b"../etc"[..], b"", b"A", b"-a"] {
            let error = read_form(&[("name", name), ("file", b"x")]).await.unwrap_err().to_string();
            assert!(error.contains("lower-case"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_form_is_refused_by_its_type() {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, "application/json".parse().unwrap())]);
        let body = futures::stream::empty::<Result<Bytes, std::io::Error>>();
        let error = read(&headers, body).await.unwrap_err().to_string();
        assert!(error.contains("application/json"), "{error}");
    }
}
