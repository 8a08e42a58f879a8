//! The layout of a rule artifact: how its manifest is written and what is accepted when it is read.

use std::collections::BTreeMap;

use oci_distribution::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use crate::content::looks_like;
use crate::digest::Digest;
use crate::untrusted::excerpt;

/// Media type of the manifest's config, and the artifact type
/// (CNCF TAG Runtime, "Wasm OCI Artifact layout").
pub const CONFIG_MEDIA_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Media type of the one layer that holds the module (the same document; IANA-registered).
pub const MODULE_MEDIA_TYPE: &str = "application/wasm";
/// Manifest annotation with the time of creation, RFC 3339 (OCI image-spec 1.1, annotations.md).
pub const CREATED_ANNOTATION: &str = "org.opencontainers.image.created";

const TITLE_ANNOTATION: &str = "org.opencontainers.image.title";
/// The file name that generic tools such as oras give the layer; fixed, so that the manifest depends on
/// nothing else.
const MODULE_FILE_NAME: &str = "module.wasm";
/// The layout wants a time; the epoch keeps the manifest a function of its content.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// What we ask a registry for: indexes too, so that the error can say that it is one.
pub(crate) const ACCEPTED_MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// Why a manifest is not a rule artifact. Each message names what was found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // each message says what the variant means
pub enum UnsupportedArtifact {
    #[error("the manifest is not JSON of the OCI shape ({problem}): found {found}")]
    NotAManifest { found: String, problem: String },
    #[error(
        "found an image index ({media_type}) with {manifests} manifests, expected one image manifest: refer to one of \
         them by its digest, or push the module without platforms"
    )]
    Index { media_type: String, manifests: usize },
    #[error(
        "found a docker schema 1 manifest, which has no media types: push the module again with a current tool"
    )]
    DockerSchema1,
    #[error("found a manifest of media type \"{media_type}\", expected {OCI_IMAGE_MEDIA_TYPE}")]
    MediaType { media_type: String },
    #[error(
        "no layer has the media type {MODULE_MEDIA_TYPE}; found layers [{layers}], config {config}, artifact type \
         {artifact_type}: push the module with `portcullis push`"
    )]
    NoModuleLayer { layers: String, config: String, artifact_type: String },
    #[error("found {count} layers of media type {MODULE_MEDIA_TYPE}, expected exactly one: {digests}")]
    SeveralModuleLayers { count: usize, digests: String },
    #[error("the module's layer cannot be checked: {problem}")]
    Descriptor { problem: String },
}

/// The one layer with the module, as the manifest declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModuleLayer {
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
}

/// A manifest that was understood.
#[derive(Debug)]
pub(crate) struct RuleManifest {
    pub(crate) module: ModuleLayer,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Everything that tells one kind of manifest from another.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyManifest {
    schema_version: Option<i64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<OciDescriptor>,
    layers: Option<Vec<OciDescriptor>>,
    manifests: Option<Vec<IgnoredAny>>,
    fs_layers: Option<IgnoredAny>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads a manifest and picks the module's layer.
///
/// Other layers (tests, configuration schema) may stand beside it; they are never fetched, so they are not
/// judged.
pub(crate) fn read(json: &[u8]) -> Result<RuleManifest, UnsupportedArtifact> {
    let manifest: AnyManifest = serde_json::from_slice(json).map_err(|error| {
        UnsupportedArtifact::NotAManifest { found: looks_like(json), problem: excerpt(&error.to_string()) }
    })?;
    let media_type = manifest.media_type.as_deref();
    if let Some(manifests) = &manifest.manifests {
        let media_type = excerpt(media_type.unwrap_or("no media type"));
        return Err(UnsupportedArtifact::Index { media_type, manifests: manifests.len() });
    }
    if manifest.schema_version == Some(1) || manifest.fs_layers.is_some() {
        return Err(UnsupportedArtifact::DockerSchema1);
    }
    match media_type {
        None | Some(OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE) => {}
        Some(index @ (OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE)) => {
            return Err(UnsupportedArtifact::Index { media_type: index.into(), manifests: 0 });
        }
        Some(other) => return Err(UnsupportedArtifact::MediaType { media_type: excerpt(other) }),
    }
    let (Some(config), Some(layers)) = (&manifest.config, &manifest.layers) else {
        let problem = "\"config\" or \"layers\" is missing".to_owned();
        return Err(UnsupportedArtifact::NotAManifest { found: "other JSON".into(), problem });
    };
    let modules: Vec<&OciDescriptor> =
        layers.iter().filter(|layer| layer.media_type == MODULE_MEDIA_TYPE).collect();
    match modules.as_slice() {
        [module] => Ok(RuleManifest {
            module: module_layer(module)?,
            annotations: manifest.annotations.unwrap_or_default(),
        }),
        [] => Err(UnsupportedArtifact::NoModuleLayer {
            layers: media_types(layers),
            config: excerpt(&config.media_type),
            artifact_type: excerpt(manifest.artifact_type.as_deref().unwrap_or("not set")),
        }),
        several => Err(UnsupportedArtifact::SeveralModuleLayers {
            count: several.len(),
            digests: several
                .iter()
                .take(4)
                .map(|layer| excerpt(&layer.digest))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

fn module_layer(descriptor: &OciDescriptor) -> Result<ModuleLayer, UnsupportedArtifact> {
    let digest = descriptor.digest.parse().map_err(|error: crate::digest::DigestError| {
        UnsupportedArtifact::Descriptor { problem: excerpt(&error.to_string()) }
    })?;
    let size = u64::try_from(descriptor.size).map_err(|_| UnsupportedArtifact::Descriptor {
        problem: format!("its size is {} bytes", descriptor.size),
    })?;
    Ok(ModuleLayer { digest, size })
}

/// `a, b (3 times)`, at most eight kinds.
fn media_types(layers: &[OciDescriptor]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for layer in layers {
        match kinds.iter().position(|(kind, _)| *kind == layer.media_type) {
            Some(known) => kinds[known].1 += 1,
            // Counting beyond what is shown would be quadratic in a list the registry chooses.
            None if kinds.len() < 8 => kinds.push((&layer.media_type, 1)),
            None => {}
        }
    }
    let shown: Vec<String> = kinds
        .into_iter()
        .map(|(kind, count)| match count {
            1 => excerpt(kind),
            times => format!("{} ({times} times)", excerpt(kind)),
        })
        .collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// The three pieces of a push; a function of module and annotations alone.
pub(crate) struct Layout {
    pub(crate) config: Vec<u8>,
    pub(crate) config_digest: Digest,
    pub(crate) module_digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) manifest_digest: Digest,
}

/// Lays a module out as an OCI 1.1 image manifest.
pub(crate) fn write(wasm: &[u8], annotations: &BTreeMap<String, String>) -> Layout {
    let module_digest = Digest::of(wasm);
    let created = annotations.get(CREATED_ANNOTATION).map_or(NO_TIME, String::as_str);
    // "os" must be a value of GOOS and plain WebAssembly has none: the layout's document says wasip1 for
    // modules.
    let config = serde_json::json!({
        "created": created,
        "architecture": "wasm",
        "os": "wasip1",
        "layerDigests": [module_digest.as_str()],
    });
    let config = config.to_string().into_bytes();
    let config_digest = Digest::of(&config);
    let descriptor = |media_type: &str, digest: &Digest, content: &[u8]| OciDescriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        size: i64::try_from(content.len()).expect("a slice is never longer than isize::MAX"),
        ..OciDescriptor::default()
    };
    let manifest = OciImageManifest {
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        artifact_type: Some(CONFIG_MEDIA_TYPE.to_owned()),
        config: descriptor(CONFIG_MEDIA_TYPE, &config_digest, &config),
        layers: vec![OciDescriptor {
            annotations: Some(BTreeMap::from([(TITLE_ANNOTATION.into(), MODULE_FILE_NAME.into())])),
            ..descriptor(MODULE_MEDIA_TYPE, &module_digest, wasm)
        }],
        annotations: (!annotations.is_empty()).then(|| annotations.clone()),
        ..OciImageManifest::default()
    };
    let manifest = serde_json::to_vec(&manifest).expect("a manifest has only string keys");
    let manifest_digest = Digest::of(&manifest);
    Layout { config, config_digest, module_digest, manifest, manifest_digest }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    fn layer(media_type: &str) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": Digest::of(WASM).as_str(), "size": 8})
    }

    fn manifest(layers: &[&str]) -> Vec<u8> {
        let layers: Vec<_> = layers.iter().map(|media_type| layer(media_type)).collect();
        serde_json::json!({
            "schemaVersion": 2,
            "config": layer("application/vnd.oci.image.config.v1+json"),
            "layers": layers,
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let annotations =
            BTreeMap::from([("org.opencontainers.image.version".to_owned(), "1.0.0".to_owned())]);
        let layout = write(WASM, &annotations);
        let read = read(&layout.manifest).unwrap();
        assert_eq!(read.module, ModuleLayer { digest: Digest::of(WASM), size: 8 });
        assert_eq!(read.annotations, annotations);
    }

    #[test]
    fn the_same_module_and_annotations_give_the_same_manifest() {
        let annotations = BTreeMap::new();
        assert_eq!(write(WASM, &annotations).manifest, write(WASM, &annotations).manifest);
        let created = BTreeMap::from([(CREATED_ANNOTATION.to_owned(), "2026-01-02T03:04:05Z".to_owned())]);
        let dated = write(WASM, &created);
        assert_ne!(dated.manifest_digest, write(WASM, &annotations).manifest_digest);
        assert!(String::from_utf8(dated.config).unwrap().contains("2026-01-02T03:04:05Z"));
    }

    #[test]
    fn the_manifest_has_the_media_types_of_the_layout() {
        let json: serde_json::Value =
            serde_json::from_slice(&write(WASM, &BTreeMap::new()).manifest).unwrap();
        assert_eq!(json["schemaVersion"], 2);
        assert_eq!(json["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(json["artifactType"], "application/vnd.wasm.config.v0+json");
        assert_eq!(json["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
        assert_eq!(json["layers"][0]["mediaType"], "application/wasm");
        assert_eq!(json["layers"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn further_layers_beside_the_module_are_ignored() {
        let json = manifest(&["application/vnd.portcullis.rule.tests.v1+yaml", "application/wasm"]);
        assert_eq!(read(&json).unwrap().module.size, 8);
    }

    #[test]
    fn a_manifest_without_a_module_lists_the_media_types_found() {
        let json = manifest(&["application/vnd.oci.image.layer.v1.tar+gzip"; 3]);
        let message = read(&json).unwrap_err().to_string();
        assert!(message.contains("application/vnd.oci.image.layer.v1.tar+gzip (3 times)"), "{message}");
        assert!(message.contains("config application/vnd.oci.image.config.v1+json"), "{message}");
        assert!(message.contains("artifact type not set"), "{message}");
        assert!(read(&manifest(&[])).unwrap_err().to_string().contains("found layers [none]"));
    }

    #[test]
    fn two_modules_are_refused() {
        let json = manifest(&["application/wasm", "application/wasm"]);
        assert!(matches!(read(&json), Err(UnsupportedArtifact::SeveralModuleLayers { count: 2, .. })));
    }

    #[test]
    fn other_kinds_of_manifest_are_named() {
        let problem = |json: &str| read(json.as_bytes()).unwrap_err();
        let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{}]}"#;
        assert!(matches!(problem(index), UnsupportedArtifact::Index { manifests: 2, .. }));
        assert_eq!(problem(r#"{"schemaVersion":1,"fsLayers":[]}"#), UnsupportedArtifact::DockerSchema1);
        let other = r#"{"schemaVersion":2,"mediaType":"application/vnd.acme","config":null}"#;
        assert!(matches!(problem(other), UnsupportedArtifact::MediaType { .. }));
        assert!(problem("<html>login</html>").to_string().contains("found HTML"));
        assert!(problem(r#"{"hello":1}"#).to_string().contains("other JSON"));
    }

    #[test]
    fn a_descriptor_that_cannot_be_checked_is_refused() {
        let with = |digest: &str, size: i64| {
            let mut json: serde_json::Value =
                serde_json::from_slice(&manifest(&["application/wasm"])).unwrap();
            json["layers"][0]["digest"] = digest.into();
            json["layers"][0]["size"] = size.into();
            read(json.to_string().as_bytes()).unwrap_err().to_string()
        };
        assert!(with("sha512:00", 8).contains("not a sha256 digest"));
        assert!(with(Digest::of(WASM).as_str(), -1).contains("its size is -1 bytes"));
    }
}
