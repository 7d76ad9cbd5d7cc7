//! The files of a volume as a value: path, bytes, mode, owner.

use std::collections::BTreeMap;
use std::path::{Component, Path};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub uid: Option<u32>,
}

/// By path below the volume, in order.
pub type Payload = BTreeMap<String, File>;

/// Adds what a config map or secret gives: all of its keys, or the listed items.
pub fn add_items(
    out: &mut Payload,
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[api::core::v1::KeyToPath]>,
    default_mode: u32,
    optional: bool,
    what: &str,
) -> Result<(), String> {
    let file = |bytes: &Vec<u8>, mode: Option<i32>| File {
        bytes: bytes.clone(),
        mode: mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default_mode),
        uid: None,
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        out.extend(data.iter().map(|(key, bytes)| (key.clone(), file(bytes, None))));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => drop(out.insert(item.path.clone(), file(bytes, item.mode))),
            None if optional => {}
            None => return Err(format!("references non-existent {what} key: {}", item.key)),
        }
    }
    Ok(())
}

/// A path that stays inside the volume and does not look like the writer's own files.
pub fn valid_path(path: &str) -> bool {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    !path.is_empty() && inside && !path.starts_with("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, valid) in [("a", true), ("a/b", true), ("", false), ("../a", false), ("a/../b", false), ("/a", false), ("..data", false)]
        {
            assert_eq!(valid_path(path), valid, "{path}");
        }
    }
}
