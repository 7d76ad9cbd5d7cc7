//! Who this member is: ids as etcd derives them, kept in the data folder so that they survive a change of flags. Must never make a new identity over
//! data that somebody else wrote.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;

const FILE: &str = "member.json";
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    /// Grows with each start, as the term of a single member's elections does.
    pub term: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    cluster_id: String,
    member_id: String,
    term: u64,
}

impl Identity {
    /// What etcd computes for one member (server/etcdserver/api/membership/member.go). `peer_urls` are sorted.
    pub fn derive(peer_urls: &[String], token: &str) -> Self {
        let member_id = hash(format!("{}{token}", peer_urls.concat()).as_bytes());
        Self { cluster_id: hash(&member_id.to_be_bytes()), member_id, term: 1 }
    }

    /// Refuses a folder that another etcd wrote.
    pub fn check_folder(dir: &Path) -> Result<(), Error> {
        if dir.join("snap").join("db").exists() { Err(Error::ForeignData(dir.to_owned())) } else { Ok(()) }
    }

    /// Takes the identity that the folder holds, or writes `fresh` into an empty one; opens the next term.
    pub fn open(dir: &Path, fresh: Self) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let mut identity = match std::fs::read_to_string(&path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => fresh,
            Err(error) => return Err(Error::Io { path, source: error }),
        };
        identity.term += 1;
        identity.save(dir, &path)?;
        Ok(identity)
    }

    /// Gives a folder that has none an identity.
    pub fn create(&self, dir: &Path) -> Result<(), Error> {
        self.save(dir, &dir.join(FILE))
    }

    fn save(&self, dir: &Path, path: &Path) -> Result<(), Error> {
        let record = Record {
            format: FORMAT,
            cluster_id: format!("{:x}", self.cluster_id),
            member_id: format!("{:x}", self.member_id),
            term: self.term,
        };
        let temporary = path.with_extension("tmp");
        let written = (|| {
            std::fs::create_dir_all(dir)?;
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(&record)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)?;
            std::fs::File::open(dir)?.sync_all()
        })();
        written.map_err(|source| Error::Io { path: path.to_owned(), source })
    }
}

fn parse(path: &Path, text: &str) -> Result<Identity, Error> {
    let damaged = |reason: String| Error::Identity { path: PathBuf::from(path), reason };
    let record: Record = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if record.format != FORMAT {
        return Err(damaged(format!("its format is {}, this program knows {FORMAT}", record.format)));
    }
    let id = |text: &str| u64::from_str_radix(text, 16).map_err(|error| damaged(format!("{text:?}: {error}")));
    Ok(Identity { cluster_id: id(&record.cluster_id)?, member_id: id(&record.member_id)?, term: record.term })
}

/// The first eight bytes of SHA-1: etcd's ids are no secrets.
fn hash(bytes: &[u8]) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    digest.as_ref().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_etcd() {
        // What every etcd with default flags reports.
        let identity = Identity::derive(&["http://localhost:2380".into()], "etcd-cluster");
        assert_eq!((identity.member_id, identity.cluster_id), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
    }

    #[test]
    fn the_folder_knows_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path(), Identity::derive(&["http://a:1".into()], "t")).unwrap();
        let again = Identity::open(dir.path(), Identity::derive(&["http://b:1".into()], "t")).unwrap();
        assert_eq!(again, Identity { term: first.term + 1, ..first });
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Identity::open(dir.path(), again).unwrap_err().to_string().contains(FILE));
        assert!(Identity::check_folder(dir.path()).is_ok());
        std::fs::create_dir(dir.path().join("snap")).unwrap();
        std::fs::write(dir.path().join("snap/db"), "").unwrap();
        assert!(matches!(Identity::check_folder(dir.path()), Err(Error::ForeignData(_))));
    }
}
