//! Who this member is, kept in its data folder: what it was begun as stays so whatever the flags say later. Must never make a new identity over data that
//! somebody else wrote.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::Bootstrap;

use super::Error;
use crate::bootstrap::Start;
use crate::peer::RemoteMember;

const FILE: &str = "member.json";
const FORMAT: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    cluster_id: String,
    member_id: String,
    /// Of the beginning.
    peer_urls: Vec<String>,
    joins: bool,
    members: Vec<RemoteMember>,
    /// The store has begun: from then on its log must be there.
    begun: bool,
}

/// What a folder says of its member.
pub struct Known {
    pub start: Start,
    pub begun: bool,
}

/// Refuses a folder that another etcd wrote.
pub fn check_folder(dir: &Path) -> Result<(), Error> {
    if dir.join("snap").join("db").exists() { Err(Error::ForeignData(dir.to_owned())) } else { Ok(()) }
}

/// Who the folder's member is; `None` for a folder without one.
pub fn read(dir: &Path) -> Result<Option<Known>, Error> {
    let path = dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io { path, source: error }),
    }
}

/// Writes who the folder's member is, durably.
pub fn write(dir: &Path, start: &Start, begun: bool) -> Result<(), Error> {
    let (joins, members) = match &start.bootstrap {
        Bootstrap::New(members) => (false, members),
        Bootstrap::Join(members) => (true, members),
    };
    let record = Record {
        format: FORMAT,
        cluster_id: format!("{:x}", start.cluster_id),
        member_id: format!("{:x}", start.member_id),
        peer_urls: start.peer_urls.clone(),
        joins,
        members: members.iter().cloned().map(Into::into).collect(),
        begun,
    };
    let path = dir.join(FILE);
    let temporary = path.with_extension("tmp");
    let written = (|| {
        std::fs::create_dir_all(dir)?;
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        std::fs::File::open(dir)?.sync_all()
    })();
    written.map_err(|source| Error::Io { path, source })
}

fn parse(path: &Path, text: &str) -> Result<Known, Error> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let damaged = |reason: String| Error::Identity { path: PathBuf::from(path), reason };
    let Versioned { format } = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if format != FORMAT {
        return Err(damaged(format!("its format is {format}, this program knows {FORMAT}")));
    }
    let record: Record = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let id = |text: &str| u64::from_str_radix(text, 16).map_err(|error| damaged(format!("{text:?}: {error}")));
    let members = record.members.into_iter().map(Into::into).collect();
    let start = Start {
        cluster_id: id(&record.cluster_id)?,
        member_id: id(&record.member_id)?,
        peer_urls: record.peer_urls,
        bootstrap: if record.joins { Bootstrap::Join(members) } else { Bootstrap::New(members) },
    };
    Ok(Known { start, begun: record.begun })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{first, urls::UrlsMap};

    #[test]
    fn the_folder_knows_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        let start = first(&UrlsMap::parse("a=http://a:1,b=http://b:1").unwrap(), "a", "t").unwrap();
        write(dir.path(), &start, false).unwrap();
        let known = read(dir.path()).unwrap().unwrap();
        assert_eq!((known.start.member_id, known.start.cluster_id, known.begun), (start.member_id, start.cluster_id, false));
        assert!(matches!(known.start.bootstrap, Bootstrap::New(members) if members.len() == 2 && members[0].name == "a"));
        write(dir.path(), &start, true).unwrap();
        assert!(read(dir.path()).unwrap().unwrap().begun);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(read(dir.path()).err().unwrap().to_string().contains(FILE));
        std::fs::write(dir.path().join(FILE), r#"{"format":9}"#).unwrap();
        assert!(read(dir.path()).err().unwrap().to_string().contains("its format is 9"));
        assert!(check_folder(dir.path()).is_ok());
        std::fs::create_dir(dir.path().join("snap")).unwrap();
        std::fs::write(dir.path().join("snap/db"), "").unwrap();
        assert!(matches!(check_folder(dir.path()), Err(Error::ForeignData(_))));
    }
}
