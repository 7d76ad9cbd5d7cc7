//! Keeps the disk clean: rotates container logs, removes old dead containers and sandboxes, unused images (pkg/kubelet/logs,
//! pkg/kubelet/kuberuntime/kuberuntime_gc.go, pkg/kubelet/images/image_gc_manager.go).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use k8s_cri::v1 as pb;
use tokio::time::Instant;

use crate::context::Context;
use crate::node::info;
use crate::pods::Workers;
use crate::runtime::{ContainerRecord, RuntimePod, State};

/// How often logs are measured, containers and images looked through.
const LOG_PERIOD: Duration = Duration::from_secs(10);
const CONTAINER_PERIOD: Duration = Duration::from_secs(60);
const IMAGE_PERIOD: Duration = Duration::from_secs(300);

pub async fn run(context: Arc<Context>, workers: Workers) {
    let mut logs = tokio::time::interval(LOG_PERIOD);
    let mut containers = tokio::time::interval(CONTAINER_PERIOD);
    let mut image_ticks = tokio::time::interval(IMAGE_PERIOD);
    for ticks in [&mut logs, &mut containers, &mut image_ticks] {
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick comes at once; a start has more important things to do.
        ticks.reset();
    }
    loop {
        tokio::select! {
            _ = logs.tick() => rotate_all(&context, &workers).await,
            _ = containers.tick() => remove_dead(&context, &workers).await,
            _ = image_ticks.tick() => image_tick(&context).await,
        }
    }
}

async fn rotate_all(context: &Context, workers: &Workers) {
    for shared in workers.all() {
        for record in shared.runtime().containers.iter().filter(|record| record.is_running() && !record.log_path.is_empty()) {
            let path = PathBuf::from(&record.log_path);
            let size = std::fs::metadata(&path).map(|meta| meta.len()).unwrap_or(0);
            if size <= context.settings.log_max_bytes {
                continue;
            }
            if let Err(error) = rotate(&path, context.settings.log_max_files) {
                tracing::warn!(log = %path.display(), %error, "a container's log cannot be rotated");
                continue;
            }
            if let Err(error) = context.cri.reopen_log(&record.id).await {
                tracing::warn!(log = %path.display(), %error, "the runtime does not reopen a rotated log");
            }
        }
    }
}

/// Moves the log aside and removes the oldest ones, so that with the new one at most `files` are left.
fn rotate(path: &Path, files: u32) -> std::io::Result<()> {
    let old = rotated(path)?;
    let keep = usize::try_from(files.max(2) - 2).unwrap_or(0);
    for file in &old[..old.len().saturating_sub(keep)] {
        std::fs::remove_file(file)?;
    }
    let stamp = base::clock::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{stamp}"));
    std::fs::rename(path, name)
}

/// The log's rotated files, the oldest first.
fn rotated(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path());
    let mut out: Vec<PathBuf> =
        entries.filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))).collect();
    out.sort();
    Ok(out)
}

/// Dead containers but the newest of each name, and dead sandboxes but the newest: what nobody looks at any more.
fn superfluous(pod: &RuntimePod) -> (Vec<&ContainerRecord>, Vec<&str>) {
    let mut seen = HashSet::new();
    let dead = pod.containers.iter().filter(|record| record.state == State::Exited);
    let containers: Vec<&ContainerRecord> = dead.filter(|record| !seen.insert(record.name.as_str())).collect();
    let sandboxes = pod.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready).map(|sandbox| sandbox.id.as_str()).collect();
    (containers, sandboxes)
}

async fn remove_dead(context: &Context, workers: &Workers) {
    for shared in workers.all() {
        let pod = shared.runtime();
        let (containers, sandboxes) = superfluous(&pod);
        for record in containers {
            if let Err(error) = context.cri.remove_container(&record.id).await {
                tracing::warn!(container = record.id, %error, "a dead container cannot be removed");
                continue;
            }
            let log = PathBuf::from(&record.log_path);
            for file in rotated(&log).unwrap_or_default().into_iter().chain([log]) {
                if let Err(error) = std::fs::remove_file(&file) {
                    tracing::debug!(log = %file.display(), %error, "a dead container's log cannot be removed");
                }
            }
        }
        for id in sandboxes {
            if let Err(error) = context.cri.remove_sandbox(id).await {
                tracing::warn!(sandbox = id, %error, "a dead sandbox cannot be removed");
            }
        }
    }
    remove_dangling_links(context);
}

/// Links to logs that are gone.
fn remove_dangling_links(context: &Context) {
    let Some(folder) = context.settings.pod_logs_dir.parent().map(|parent| parent.join("containers")) else { return };
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let ours = std::fs::read_link(&path).is_ok_and(|target| target.starts_with(&context.settings.pod_logs_dir));
        if !ours || path.exists() {
            continue;
        }
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::debug!(link = %path.display(), %error, "a dangling log link cannot be removed");
        }
    }
}

async fn image_tick(context: &Context) {
    let (size, free) = match info::disk(&context.settings.root_dir) {
        Ok(found) => found,
        Err(error) => return tracing::warn!(%error, "the disk cannot be measured"),
    };
    let percent = |part: i32| size / 100 * u64::try_from(part).unwrap_or(0);
    let used = size - free;
    if used < percent(context.settings.image_gc_high_percent) {
        note_use(context).await;
        return;
    }
    let wanted = used.saturating_sub(percent(context.settings.image_gc_low_percent));
    let freed = images(context, wanted).await;
    if freed < wanted {
        let note = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
        );
        context.node_event(EventType::Warning, "FreeDiskSpaceFailed", note);
    }
}

/// When each image was first seen and last used, by its id.
#[derive(Debug, Default)]
pub struct ImageUse(HashMap<String, (Instant, Option<Instant>)>);

/// The images to remove for `wanted` bytes: unused ones, the longest unused first, none younger than `min_age`.
fn to_remove(
    list: &[pb::Image],
    used: &HashSet<String>,
    uses: &mut ImageUse,
    now: Instant,
    min_age: Duration,
    wanted: u64,
) -> Vec<(String, u64)> {
    uses.0.retain(|id, _| list.iter().any(|image| image.id == *id));
    for image in list {
        let entry = uses.0.entry(image.id.clone()).or_insert((now, None));
        let names = std::iter::once(&image.id).chain(&image.repo_tags).chain(&image.repo_digests);
        if image.pinned || names.into_iter().any(|name| used.contains(name)) {
            entry.1 = Some(now);
        }
    }
    let mut unused: Vec<(&pb::Image, Option<Instant>, Instant)> =
        list.iter().filter_map(|image| uses.0.get(&image.id).map(|(first, last)| (image, *last, *first))).collect();
    unused.retain(|(_, last, first)| *last != Some(now) && now.duration_since(*first) >= min_age);
    unused.sort_by_key(|(_, last, first)| (last.unwrap_or(*first), *first));
    let mut left = wanted;
    let mut out = Vec::new();
    for (image, ..) in unused {
        if left == 0 {
            break;
        }
        out.push((image.id.clone(), image.size));
        left = left.saturating_sub(image.size);
    }
    out
}

async fn look(context: &Context, wanted: u64) -> Result<Vec<(String, u64)>, crate::runtime::CriError> {
    let (list, containers) = tokio::try_join!(context.cri.list_images(), context.cri.list_containers(None))?;
    let names =
        containers.into_iter().flat_map(|container| [container.image_ref, container.image_id, container.image.unwrap_or_default().image]);
    let mut used: HashSet<String> = names.filter(|name| !name.is_empty()).collect();
    // The pause image is in no container; runtimes that do not pin it would lose it.
    used.extend(list.iter().flat_map(|image| &image.repo_tags).filter(|tag| tag.contains("pause")).cloned());
    let now = base::clock::monotonic();
    Ok(to_remove(&list, &used, &mut context.image_use.lock(), now, context.settings.image_min_gc_age, wanted))
}

async fn note_use(context: &Context) {
    if let Err(error) = look(context, 0).await {
        tracing::warn!(%error, "images cannot be listed");
    }
}

/// Removes unused images until `wanted` bytes are free; returns how many became free.
pub async fn images(context: &Context, wanted: u64) -> u64 {
    let chosen = match look(context, wanted).await {
        Ok(chosen) => chosen,
        Err(error) => {
            tracing::warn!(%error, "images cannot be listed");
            return 0;
        }
    };
    let mut freed = 0;
    for (id, size) in chosen {
        match context.cri.remove_image(&id).await {
            Ok(()) => {
                tracing::info!(image = id, bytes = size, "an unused image is removed");
                freed += size;
            }
            Err(error) => tracing::warn!(image = id, %error, "an unused image cannot be removed"),
        }
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_keep_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for stamp in ["20200101-000001", "20200101-000002", "20200101-000003"] {
            std::fs::write(dir.path().join(format!("0.log.{stamp}")), "").unwrap();
        }
        std::fs::write(&log, "new").unwrap();
        rotate(&log, 3).unwrap();
        let left = rotated(&log).unwrap();
        assert_eq!(left.len(), 2);
        assert!(left[0].ends_with("0.log.20200101-000003"));
        assert_eq!(std::fs::read_to_string(&left[1]).unwrap(), "new");
        assert!(!log.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn images_in_use_or_young_stay() {
        let image = |id: &str, size: u64| pb::Image { id: id.into(), size, repo_tags: vec![format!("{id}:1")], ..Default::default() };
        let list = [image("a", 10), image("b", 10), image("c", 10)];
        let used = HashSet::from(["a:1".to_owned()]);
        let mut uses = ImageUse::default();
        let min_age = Duration::from_secs(120);
        assert!(to_remove(&list, &used, &mut uses, base::clock::monotonic(), min_age, 100).is_empty());
        tokio::time::advance(Duration::from_secs(121)).await;
        let chosen = to_remove(&list, &used, &mut uses, base::clock::monotonic(), min_age, 15);
        let mut ids: Vec<&str> = chosen.iter().map(|(id, _)| id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["b", "c"]);
    }
}
