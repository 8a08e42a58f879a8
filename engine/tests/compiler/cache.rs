//! What was compiled once is loaded, if it is what was written.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use portcullis_engine::{
    ArtefactCache, CacheCounts, CacheError, CacheKey, CacheKeyError, Compiler, CompilerConfig, Engine,
    EngineConfig, Verdict,
};
use tempfile::TempDir;

use crate::modules::{blocks, configurable, run};
use crate::{engine, patient, tests};

tests![
    the_second_time_it_is_loaded,
    configuration_engine_and_module_have_artefacts_of_their_own,
    a_changed_file_is_removed_and_compiled_again,
    a_file_that_was_swapped_for_anothers_is_not_used,
    files_of_another_key_are_not_used,
    a_folder_that_cannot_be_written_costs_only_time,
    the_least_recently_used_goes_first,
    what_a_crash_left_is_removed,
    the_key_is_the_owners_and_stays,
    a_key_beside_what_it_protects_is_refused,
    a_refused_module_is_not_kept,
];

struct World {
    dir: TempDir,
    engine: Engine,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), engine: engine() }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("artefacts")
    }

    fn key(&self) -> CacheKey {
        CacheKey::load_or_create(&self.dir.path().join("key")).unwrap()
    }

    fn cache(&self) -> ArtefactCache {
        ArtefactCache::open(&self.folder(), self.key()).unwrap()
    }

    fn compiler(&self) -> Compiler {
        Compiler::new(CompilerConfig::default(), Some(self.cache()))
    }

    /// Compiles a module that blocks, checks it, and tells what became of the look.
    fn look(&self) -> CacheCounts {
        let compiler = self.compiler();
        let module = compiler.compile(&self.engine, &blocks(), None).unwrap();
        assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Block);
        compiler.cache().unwrap().counts()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

const HIT: CacheCounts = CacheCounts { hits: 1, misses: 0, rejected: 0, unwritten: 0 };
const MISS: CacheCounts = CacheCounts { hits: 0, misses: 1, rejected: 0, unwritten: 0 };
const REJECTED: CacheCounts = CacheCounts { hits: 0, misses: 1, rejected: 1, unwritten: 0 };

fn the_second_time_it_is_loaded() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    assert_eq!(world.look(), MISS);
    assert_eq!(world.look(), HIT);
    let [file] = &world.files()[..] else { panic!("{:?}", world.files()) };
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

fn configuration_engine_and_module_have_artefacts_of_their_own() {
    let world = World::new();
    let compiler = world.compiler();
    let wasm = configurable();
    for config in [None, Some(&b"V1"[..]), Some(b"V2")] {
        compiler.compile(&world.engine, &wasm, config).unwrap();
    }
    compiler.compile(&world.engine, &blocks(), None).unwrap();
    let smaller =
        Engine::new(&EngineConfig { workers: 1, max_memory: 1 << 20, ..EngineConfig::default() }).unwrap();
    assert!(compiler.cached(&smaller, &blocks(), None).is_none());
    compiler.compile(&smaller, &blocks(), None).unwrap();
    assert_eq!(world.files().len(), 5);

    let configured = compiler.cached(&world.engine, &wasm, Some(b"V2")).unwrap();
    assert_eq!(run(&configured).verdict, Verdict::Log);
    assert_eq!(configured.info().describe.name, "configured");
    assert!(compiler.cached(&world.engine, &wasm, Some(b"V3")).is_none());
}

fn a_changed_file_is_removed_and_compiled_again() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 7] = [
        ("first byte", |file| file[0] ^= 1),
        ("head", |file| file[40] ^= 1),
        ("code", |file| {
            let middle = file.len() / 2;
            file[middle] ^= 0x80;
        }),
        ("last byte", |file| *file.last_mut().unwrap() ^= 1),
        ("cut off", |file| file.truncate(file.len() - 1)),
        ("empty", Vec::clear),
        ("longer", |file| file.push(0)),
    ];
    let world = World::new();
    world.look();
    let path = world.files().remove(0);
    let whole = fs::read(&path).unwrap();
    for (what, change) in changes {
        let mut changed = whole.clone();
        change(&mut changed);
        fs::write(&path, changed).unwrap();
        assert_eq!(world.look(), REJECTED, "{what}");
        assert_eq!(world.look(), HIT, "{what}");
    }
}

fn a_file_that_was_swapped_for_anothers_is_not_used() {
    let world = World::new();
    world.look();
    let blocks = world.files().remove(0);
    world.compiler().compile(&world.engine, &configurable(), None).unwrap();
    let other = world.files().into_iter().find(|path| *path != blocks).unwrap();
    fs::copy(other, &blocks).unwrap();
    assert_eq!(world.look(), REJECTED);
    assert_eq!(world.look(), HIT);
}

fn files_of_another_key_are_not_used() {
    let world = World::new();
    world.look();
    fs::remove_file(world.dir.path().join("key")).unwrap();
    assert_eq!(world.look(), REJECTED);
    assert_eq!(world.look(), HIT);
}

fn a_folder_that_cannot_be_written_costs_only_time() {
    let world = World::new();
    let compiler = world.compiler();
    fs::remove_dir_all(world.folder()).unwrap();
    for count in 1..=2 {
        compiler.compile(&world.engine, &blocks(), None).unwrap();
        let counts = compiler.cache().unwrap().counts();
        assert_eq!((counts.misses, counts.unwritten), (count, count));
    }
}

fn the_least_recently_used_goes_first() {
    let world = World::new();
    world.look();
    let first = world.files().remove(0);
    let size = fs::metadata(&first).unwrap().len();
    let compiler = Compiler::new(CompilerConfig::default(), Some(world.cache().with_size(size * 5 / 2)));
    let variant = |n: u32| {
        let wat = format!(
            r#"(module (memory (export "memory") 1)
                 (func (export "inspect_request") (param i32 i32) (result i32) (drop (i32.const {n})) i32.const 1))"#
        );
        wat::parse_str(wat).unwrap()
    };
    compiler.compile(&world.engine, &variant(1), None).unwrap();
    let second = world.files().into_iter().find(|path| *path != first).unwrap();
    let age = |path: &Path, seconds| {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    };
    age(&first, 20);
    age(&second, 10);
    // Using the first makes the second the oldest.
    assert!(compiler.cached(&world.engine, &blocks(), None).is_some());
    compiler.compile(&world.engine, &variant(2), None).unwrap();
    assert!(first.exists() && !second.exists());
    assert_eq!(world.files().len(), 2);
}

fn what_a_crash_left_is_removed() {
    let world = World::new();
    fs::create_dir_all(world.folder()).unwrap();
    fs::write(world.folder().join("0123456789abcdef.new"), b"half").unwrap();
    world.cache();
    assert!(world.files().is_empty());
}

fn the_key_is_the_owners_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/key");
    CacheKey::load_or_create(&path).unwrap();
    let first = fs::read(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = CacheKey::load_or_create(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    assert_eq!(first.len(), 32);
    assert!(!format!("{key:?}").contains(&format!("{first:?}")));
    fs::write(&path, b"short").unwrap();
    let error = CacheKey::load_or_create(&path).unwrap_err();
    assert!(matches!(error, CacheKeyError::Length { found: 5, .. }), "{error:?}");
    let error = CacheKey::load_or_create(Path::new("/proc/no/key")).unwrap_err();
    assert!(matches!(error, CacheKeyError::File { .. }), "{error:?}");
}

fn a_key_beside_what_it_protects_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["key", "deeper/key"] {
        let key = CacheKey::load_or_create(&dir.path().join(path)).unwrap();
        let error = ArtefactCache::open(dir.path(), key).unwrap_err();
        assert!(matches!(error, CacheError::KeyInside { .. }), "{error:?}");
    }
}

fn a_refused_module_is_not_kept() {
    let world = World::new();
    assert!(world.compiler().compile(&world.engine, b"no", None).is_err());
    assert!(world.compiler().compile(&world.engine, &configurable(), Some(b"N")).is_err());
    assert!(world.files().is_empty());
}
