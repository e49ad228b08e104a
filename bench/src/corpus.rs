//! Real segments: a PostgreSQL server writes them under pgbench, in one run, so that their
//! names follow one another. Each is kept as an original, with its SHA-256.

mod load;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rustix::fs::FallocateFlags;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use walferry_tests::Postgres;
use walferry_tests::world::place_file;

use load::Load;

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Full of pgbench's transactions.
    Full,
    /// 5 to 25 % of pgbench's transactions, then a switch.
    Light,
    /// Full of rows of random bytes, stored uncompressed.
    Random,
    /// A switch after almost nothing; these come first.
    Idle,
}

/// How many segments of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// [`Kind::Full`]
    pub full: usize,
    /// [`Kind::Light`]
    pub light: usize,
    /// [`Kind::Random`]
    pub random: usize,
    /// [`Kind::Idle`]
    pub idle: usize,
}

/// One segment as PostgreSQL wrote it.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its name, 24 hex digits.
    pub name: String,
    /// Where the original lies; its tail of zeros takes no space on disk.
    pub path: PathBuf,
    /// What it holds.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// SHA-256, 64 hex digits.
    pub sha256: String,
}

/// Segments in order, and the server that wrote them, which runs and is idle.
#[derive(Debug)]
pub struct Corpus {
    server: Postgres,
    segments: Vec<Segment>,
    _runtime: Runtime,
}

impl Default for Counts {
    /// 200: a quarter full, most lightly filled, a tenth random.
    fn default() -> Counts {
        Counts {
            full: 50,
            light: 130,
            random: 20,
            idle: 0,
        }
    }
}

impl Counts {
    /// So many lightly filled ones and nothing else.
    #[must_use]
    pub fn light(light: usize) -> Counts {
        Counts {
            full: 0,
            light,
            random: 0,
            idle: 0,
        }
    }

    /// The kinds in the order they are made: the idle ones first, before there is any load,
    /// the others each spread evenly over the rest.
    fn order(self) -> Vec<Kind> {
        let wanted = [
            (Kind::Full, self.full),
            (Kind::Light, self.light),
            (Kind::Random, self.random),
        ];
        // The n-th of `count` stands at (2n + 1) / 2count of the way.
        let mut places: Vec<(usize, usize, Kind)> = wanted
            .iter()
            .flat_map(|(kind, count)| (0..*count).map(|n| (2 * n + 1, 2 * *count, *kind)))
            .collect();
        places.sort_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)));
        let rest = places.into_iter().map(|(_, _, kind)| kind);
        std::iter::repeat_n(Kind::Idle, self.idle)
            .chain(rest)
            .collect()
    }
}

impl Corpus {
    /// Makes segments of 16 MiB below `folder`, which PostgreSQL's user has to reach: the
    /// originals in `corpus`, the server in `writer`. 200 take less than a minute.
    ///
    /// # Panics
    /// When the server or pgbench fails, or a segment did not become what it was to be.
    #[must_use]
    pub fn make(folder: &Path, counts: Counts) -> Corpus {
        Corpus::make_within(folder, counts, 50)
    }

    /// The same where a lightly filled one may be up to `most_light` percent full: on a busy
    /// machine the server writes on before it hears of the switch, and of some thousand
    /// segments a few become fuller than they were to be. [`Corpus::light_fill`] tells how full.
    ///
    /// # Panics
    /// As [`Corpus::make`].
    #[must_use]
    pub fn make_within(folder: &Path, counts: Counts, most_light: u64) -> Corpus {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let originals = folder.join("corpus");
        std::fs::create_dir_all(&originals).expect("make the corpus's folder");
        let mut load = Load::start(folder, runtime.handle());
        let (linked, arriving) = mpsc::channel();
        let segments = std::thread::scope(|scope| {
            let kept =
                scope.spawn(move || arriving.iter().map(|one| kept(one, most_light)).collect());
            for (number, kind) in counts.order().into_iter().enumerate() {
                let name = load.segment(number, kind);
                let path = originals.join(&name);
                // A link, taken before the server's next checkpoint removes its own.
                std::fs::hard_link(load.server().pg_wal().join(&name), &path)
                    .unwrap_or_else(|error| panic!("keep {name}: {error}"));
                linked
                    .send((name, path, kind))
                    .expect("the thread that hashes lives");
            }
            drop(linked);
            kept.join().expect("every segment was hashed")
        });
        Corpus {
            server: load.end(),
            segments,
            _runtime: runtime,
        }
    }

    /// The segments, in the order of their names.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Their bytes together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// How many there are of a kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        let of_kind = |segment: &&Segment| segment.kind == kind;
        self.segments.iter().filter(of_kind).count()
    }

    /// How full the lightly filled ones are, in percent: in the mean, and the fullest. Where the
    /// file system has no holes, all count as full.
    ///
    /// # Panics
    /// When an original is gone.
    #[must_use]
    pub fn light_fill(&self) -> (u64, u64) {
        let shares: Vec<u64> = self
            .segments
            .iter()
            .filter(|segment| segment.kind == Kind::Light)
            .map(|segment| {
                let original = std::fs::metadata(&segment.path)
                    .unwrap_or_else(|error| panic!("{}: {error}", segment.path.display()));
                original.blocks() * 512 * 100 / segment.size
            })
            .collect();
        let mean = shares.iter().sum::<u64>() / (shares.len() as u64).max(1);
        (mean, shares.iter().copied().max().unwrap_or_default())
    }

    /// The server that wrote them: for what has to see its `pg_control`, or to ask it.
    pub fn server(&mut self) -> &mut Postgres {
        &mut self.server
    }
}

impl Segment {
    /// Its bytes.
    ///
    /// # Panics
    /// When the original cannot be read.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        std::fs::read(&self.path)
            .unwrap_or_else(|error| panic!("read {}: {error}", self.path.display()))
    }

    /// Puts a copy into an archive directory, as `push` leaves it: complete at once, owner
    /// PostgreSQL, readable by walferry's group.
    ///
    /// # Panics
    /// When that fails.
    pub fn place(&self, directory: &Path) {
        place_file(directory, &self.name, &self.read())
            .unwrap_or_else(|error| panic!("place {}: {error}", self.name));
    }

    /// Whether `plain` is this segment.
    #[must_use]
    pub fn is(&self, plain: &[u8]) -> bool {
        hex::encode(Sha256::digest(plain)) == self.sha256
    }
}

/// Hashes a segment, gives back the space of its tail of zeros, and makes it readable.
fn kept((name, path, kind): (String, PathBuf, Kind), most_light: u64) -> Segment {
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("read {name}: {error}"));
    let size = bytes.len() as u64;
    assert_eq!(size, 16 << 20, "{name} is no segment of 16 MiB");
    let filled = bytes
        .chunks(4096)
        .rposition(|page| page.iter().any(|byte| *byte != 0))
        .map_or(0, |page| (page as u64 + 1) * 4096);
    let share = filled * 100 / size;
    let as_wanted = match kind {
        Kind::Full | Kind::Random => share >= 99,
        Kind::Light => share <= most_light,
        Kind::Idle => share <= 1,
    };
    assert!(as_wanted, "{name}: {share} % filled is not {kind:?}");
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("open {name}: {error}"));
    if filled < size {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where the file system has no holes, the zeros stay.
        let _ = rustix::fs::fallocate(&file, hole, filled, size - filled);
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
        .unwrap_or_else(|error| panic!("chmod {name}: {error}"));
    Segment {
        sha256: hex::encode(Sha256::digest(&bytes)),
        name,
        path,
        kind,
        size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_spread_over_the_whole() {
        let counts = Counts {
            full: 2,
            light: 4,
            random: 1,
            idle: 1,
        };
        use Kind::{Full, Idle, Light, Random};
        let order = counts.order();
        assert_eq!(
            order,
            [Idle, Light, Full, Light, Random, Light, Full, Light]
        );
        assert_eq!(Counts::default().order().len(), 200);
    }

    #[test]
    fn a_small_corpus_is_contiguous_and_what_it_was_to_be() {
        let folder = std::env::temp_dir().join(format!("bench-corpus-{}", std::process::id()));
        let counts = Counts {
            full: 1,
            light: 3,
            random: 2,
            idle: 1,
        };
        let corpus = Corpus::make(&folder, counts);
        let numbers: Vec<u64> = corpus
            .segments()
            .iter()
            .map(|segment| u64::from_str_radix(&segment.name[16..], 16).expect("hex digits"))
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(corpus.count(Kind::Light), 3);
        for segment in corpus.segments() {
            assert!(segment.is(&segment.read()), "{segment:?}");
        }
        drop(corpus);
        #[expect(clippy::disallowed_methods, reason = "the test's own folder")]
        std::fs::remove_dir_all(folder).expect("remove the test's folder");
    }
}
