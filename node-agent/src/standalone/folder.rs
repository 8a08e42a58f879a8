//! Follows a folder of WasmRule and WafRoute YAML. A file that breaks keeps what it had.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use portcullis_crds::bus::{DesiredLimits, DesiredRoute, DesiredRule, ModuleRef, RevisionSpec, SetHash};
use portcullis_crds::revision::{ModuleDigest, Revision};
use portcullis_crds::{RouteKey, RuleConfig, RuleKey};
use thiserror::Error;

use super::manifest::{self, Manifest, ManifestError, RuleManifest};
use crate::desired::fence::Fence;
use crate::desired::version::View;
use crate::desired::{RouteVersion, Version};

/// Why a file was not taken.
#[derive(Debug, Error)]
#[error("{path}: {reason}")]
pub struct FileError {
    path: String,
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("rule {rule}: cannot read module {module}: {source}")]
    Module { rule: RuleKey, module: String, source: io::Error },
    #[error(
        "rule {rule}: source.file {module:?} leads out of the folder of this file; put the module beside it"
    )]
    Outside { rule: RuleKey, module: String },
    #[error("{object} is in {other} already; give it another name")]
    Twice { object: String, other: String },
}

/// What a look at the folder found.
#[derive(Debug)]
pub struct Scan {
    /// The rules: of broken files, the last ones that were good.
    pub view: View,
    /// Modules that the rules name.
    pub modules: Vec<Bytes>,
    /// Files that are broken.
    pub errors: Vec<FileError>,
}

#[derive(Clone, Default)]
struct Good {
    versions: Vec<Version>,
    routes: Vec<Arc<RouteVersion>>,
    modules: Vec<Bytes>,
    /// Where the modules are, to see when they change.
    sources: BTreeSet<PathBuf>,
}

/// When and how large: a change of it means that a file has to be read again.
type Stamps = BTreeMap<PathBuf, Option<(SystemTime, u64)>>;

/// The folder.
pub struct Folder {
    dir: PathBuf,
    good: BTreeMap<PathBuf, Good>,
    scans: u64,
    /// As they were at the last scan.
    scanned: Stamps,
    /// As they were at the last look.
    seen: Stamps,
}

impl Folder {
    /// Follows this folder.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            good: BTreeMap::new(),
            scans: 0,
            scanned: Stamps::new(),
            seen: Stamps::new(),
        }
    }

    /// Whether something changed since the last scan and has stayed the same since the last look: a file
    /// that is being written is left alone.
    pub fn has_changed(&mut self) -> io::Result<bool> {
        let now = self.stamps()?;
        let is_steady = now == self.seen;
        self.seen = now;
        Ok(is_steady && self.seen != self.scanned)
    }

    /// Reads all files.
    pub fn scan(&mut self) -> io::Result<Scan> {
        self.scans += 1;
        let files = self.files()?;
        self.good.retain(|path, _| files.contains(path));
        let mut errors = Vec::new();
        for path in &files {
            match read(path, self.scans) {
                Ok(good) => {
                    self.good.insert(path.clone(), good);
                }
                Err(reason) => errors.push(FileError { path: path.display().to_string(), reason }),
            }
        }
        let (mut rules, mut routes) = (Objects::default(), Objects::default());
        for (path, good) in &self.good {
            for version in &good.versions {
                let object = || format!("rule {}", version.rule.key);
                errors.extend(rules.add(version.rule.key.clone(), Arc::new(version.clone()), path, object));
            }
            for route in &good.routes {
                let key = &route.route.key;
                let object = || format!("route {key}");
                errors.extend(routes.add(key.clone(), Arc::clone(route), path, object));
            }
        }
        let modules = self.good.values().flat_map(|good| good.modules.clone()).collect();
        self.scanned = self.stamps()?;
        self.seen = self.scanned.clone();
        Ok(Scan { view: view(self.scans, rules.all, routes.all), modules, errors })
    }

    fn files(&self) -> io::Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
            if is_yaml && !path.is_dir() {
                files.insert(path);
            }
        }
        Ok(files)
    }

    fn stamps(&self) -> io::Result<Stamps> {
        let sources = self.good.values().flat_map(|good| good.sources.iter().cloned());
        let stamp = |path: &PathBuf| fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
        let modules_beside = fs::read_dir(&self.dir)?.filter_map(|entry| Some(entry.ok()?.path()));
        let modules_beside = modules_beside.filter(|path| path.extension().is_some_and(|e| e == "wasm"));
        let paths = self.files()?.into_iter().chain(sources).chain(modules_beside);
        Ok(paths.map(|path| (path.clone(), stamp(&path))).collect())
    }
}

/// Objects of one kind, each from one file.
struct Objects<'f, K, T> {
    all: BTreeMap<K, Arc<T>>,
    files: BTreeMap<K, &'f Path>,
}

impl<K, T> Default for Objects<'_, K, T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), files: BTreeMap::new() }
    }
}

impl<'f, K: Ord + Clone, T> Objects<'f, K, T> {
    /// Adds one, unless a file has it already.
    fn add(
        &mut self,
        key: K,
        object: Arc<T>,
        path: &'f Path,
        name: impl Fn() -> String,
    ) -> Option<FileError> {
        if let Some(other) = self.files.get(&key) {
            let reason = Reason::Twice { object: name(), other: other.display().to_string() };
            return Some(FileError { path: path.display().to_string(), reason });
        }
        self.files.insert(key.clone(), path);
        self.all.insert(key, object);
        None
    }
}

/// The set as if a bus had said it.
fn view(
    scans: u64,
    rules: BTreeMap<RuleKey, Arc<Version>>,
    routes: BTreeMap<RouteKey, Arc<RouteVersion>>,
) -> View {
    View {
        stream: Some("stand-alone".to_owned().into()),
        fence: Fence { epoch: 1, since: 1 },
        sequence: scans,
        object_sequence: scans,
        complete: true,
        resyncs: scans,
        rules,
        routes,
        refused: BTreeMap::new(),
        kept: BTreeSet::new(),
        refused_routes: BTreeMap::new(),
        routes_hash: SetHash::of_routes(std::iter::empty()), // nobody is told
    }
}

fn route_version(route: DesiredRoute) -> RouteVersion {
    RouteVersion {
        uid: route.key.to_string(),
        generation: 0,
        revision: route.revision(),
        epoch: 1,
        sequence: 0,
        route: Arc::new(route),
    }
}

fn read(path: &Path, scan: u64) -> Result<Good, Reason> {
    let text = fs::read_to_string(path)?;
    let mut good = Good::default();
    for manifest in manifest::read(&text)? {
        let manifest = match manifest {
            Manifest::Rule(rule) => rule,
            Manifest::Route(route) => {
                good.routes.push(Arc::new(route_version(route)));
                continue;
            }
        };
        let source = inside(path, &manifest)?;
        let unreadable =
            |source| Reason::Module { rule: manifest.key.clone(), module: manifest.file.clone(), source };
        let module: Bytes = fs::read(&source).map_err(unreadable)?.into();
        good.versions.push(version(&manifest, &source, &module, scan));
        good.modules.push(module);
        good.sources.insert(source);
    }
    Ok(good)
}

/// The module's path, which must be in the folder of its file or below.
fn inside(path: &Path, manifest: &RuleManifest) -> Result<PathBuf, Reason> {
    let rule = || manifest.key.clone();
    let unreadable = |source| Reason::Module { rule: rule(), module: manifest.file.clone(), source };
    let dir = path.parent().unwrap_or(Path::new("."));
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let source = dir.join(&manifest.file).canonicalize().map_err(unreadable)?;
    if !source.starts_with(dir.canonicalize()?) {
        return Err(Reason::Outside { rule: rule(), module: manifest.file.clone() });
    }
    Ok(source)
}

fn version(manifest: &RuleManifest, source: &Path, module: &Bytes, scan: u64) -> Version {
    let spec = &manifest.spec;
    let stable = RevisionSpec {
        module: ModuleRef {
            digest: ModuleDigest::of(module),
            size: module.len() as u64,
            reference: source.display().to_string(),
            manifest_digest: String::new(),
        },
        abi: 0,
        config: spec.config.as_ref().map(RuleConfig::canonical),
        isolation: spec.isolation,
        mode: spec.mode,
        priority: spec.priority,
        limits: DesiredLimits::from(&spec.limits),
        on_failure: spec.on_failure,
        block: spec.block.clone(),
        matches: spec.matches.clone(),
        rate_limit: spec.rate_limit.clone(),
        expires_at: spec.expires_at.as_ref().map(|at| at.0),
    };
    Version {
        uid: "stand-alone".to_owned(),
        generation: i64::try_from(scan).unwrap_or(i64::MAX),
        revision: Revision::of(&stable),
        epoch: 1,
        sequence: scan,
        rule: DesiredRule { key: manifest.key.clone(), stable, candidate: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(name: &str, file: &str) -> String {
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmRule\nmetadata: {{name: {name}}}\nspec:\n  source: {{file: {file}}}\n"
        )
    }

    fn names(scan: &Scan) -> Vec<&str> {
        scan.view.rules.keys().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn a_file_that_breaks_keeps_its_rules_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("m.wasm"), b"module").unwrap();
        fs::write(dir.path().join("a.yaml"), yaml("a", "m.wasm")).unwrap();
        fs::write(dir.path().join("b.yml"), yaml("b", "m.wasm")).unwrap();
        let mut folder = Folder::new(dir.path());
        let scan = folder.scan().unwrap();
        assert_eq!(names(&scan), ["a", "b"]);
        assert!(scan.errors.is_empty());

        fs::write(dir.path().join("a.yaml"), "spec: [").unwrap();
        fs::remove_file(dir.path().join("b.yml")).unwrap();
        let scan = folder.scan().unwrap();
        assert_eq!(names(&scan), ["a"]);
        assert!(scan.errors[0].to_string().contains("a.yaml"), "{}", scan.errors[0]);
    }

    #[test]
    fn a_module_outside_the_folder_is_refused_also_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("rules");
        fs::create_dir(&rules).unwrap();
        fs::write(dir.path().join("m.wasm"), b"module").unwrap();
        std::os::unix::fs::symlink(dir.path().join("m.wasm"), rules.join("link.wasm")).unwrap();
        for file in ["../m.wasm", "link.wasm", "/etc/hostname"] {
            fs::write(rules.join("a.yaml"), yaml("a", file)).unwrap();
            let scan = Folder::new(&rules).scan().unwrap();
            assert!(scan.errors[0].to_string().contains("leads out of the folder"), "{}", scan.errors[0]);
        }
    }

    #[test]
    fn two_files_with_one_rule_name_each_other() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("m.wasm"), b"module").unwrap();
        fs::write(dir.path().join("a.yaml"), yaml("a", "m.wasm")).unwrap();
        fs::write(dir.path().join("b.yaml"), yaml("a", "m.wasm")).unwrap();
        let scan = Folder::new(dir.path()).scan().unwrap();
        assert_eq!(names(&scan), ["a"]);
        let error = scan.errors[0].to_string();
        assert!(error.contains("b.yaml") && error.contains("a.yaml"), "{error}");
    }

    #[test]
    fn a_change_is_seen_once_it_is_steady() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("m.wasm"), b"module").unwrap();
        fs::write(dir.path().join("a.yaml"), yaml("a", "m.wasm")).unwrap();
        let mut folder = Folder::new(dir.path());
        let before = folder.scan().unwrap().view.rules;
        assert!(!folder.has_changed().unwrap());
        fs::write(dir.path().join("m.wasm"), b"another module").unwrap();
        assert!(!folder.has_changed().unwrap(), "it may still be being written");
        assert!(folder.has_changed().unwrap());
        assert_ne!(folder.scan().unwrap().view.rules, before);
        assert!(!folder.has_changed().unwrap());
    }
}
