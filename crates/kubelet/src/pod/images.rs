//! Makes sure that a container's image is there: pull policy, credentials, backoff between failed pulls (pkg/kubelet/images).

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Container, Pod};
use base64::Engine;
use client::EventType;
use k8s_cri::v1 as pb;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::restart::{INITIAL_BACKOFF, MAX_BACKOFF, RestartBackoff};
use super::{namespace, spec, uid};
use crate::context::Context;

/// Why a container does not start, as its waiting state shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
}

impl Failure {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// An image that is on the machine.
#[derive(Clone, Debug)]
pub struct Present {
    pub id: String,
    pub uid: Option<i64>,
    pub user: String,
}

/// The pulls of the whole node.
pub struct Images {
    slots: Option<Arc<Semaphore>>,
    backoff: Mutex<RestartBackoff>,
    failures: Mutex<hashbrown::HashMap<String, String>>,
}

impl Images {
    /// `parallel`: how many pulls at once; `None` is any number.
    pub fn new(parallel: Option<usize>) -> Self {
        Self {
            slots: parallel.map(|count| Arc::new(Semaphore::new(count.max(1)))),
            backoff: Mutex::new(RestartBackoff::new(INITIAL_BACKOFF, MAX_BACKOFF)),
            failures: Mutex::default(),
        }
    }

    /// Pulls where the policy wants it. `field` is the container's place in the spec, for events.
    pub async fn ensure(
        &self,
        context: &Context,
        pod: &Pod,
        container: &Container,
        field: &str,
        sandbox: &pb::PodSandboxConfig,
    ) -> Result<Present, Failure> {
        let written = container.image.clone().unwrap_or_default();
        let name = with_default_tag(&written).ok_or_else(|| {
            let text =
                format!("Failed to apply default image tag {written:?}: couldn't parse image name {written:?}: invalid reference format");
            context.event(pod, Some(field), EventType::Warning, "InspectFailed", text.clone());
            Failure::new("InvalidImageName", text)
        })?;
        let present = self.present(context, &name).await.map_err(|error| {
            let text = format!("Failed to inspect image {written:?}: {error}");
            context.event(pod, Some(field), EventType::Warning, "InspectFailed", text.clone());
            Failure::new("ImageInspectError", text)
        })?;
        match (container.image_pull_policy.as_deref(), present) {
            (Some("IfNotPresent") | Some("Never") | None, Some(present)) => {
                let text = format!("Container image {written:?} already present on machine");
                context.event(pod, Some(field), EventType::Normal, "Pulled", text);
                Ok(present)
            }
            (Some("Never"), None) => {
                let text = format!("Container image {written:?} is not present with pull policy of Never");
                context.event(pod, Some(field), EventType::Warning, "ErrImageNeverPull", text.clone());
                Err(Failure::new("ErrImageNeverPull", text))
            }
            _ => self.pull(context, pod, &written, &name, field, sandbox).await,
        }
    }

    async fn present(&self, context: &Context, name: &str) -> Result<Option<Present>, crate::runtime::CriError> {
        let image = context.cri.image(name).await?;
        Ok(image.map(|image| Present { id: image.id, uid: image.uid.map(|uid| uid.value), user: image.username }))
    }

    async fn pull(
        &self,
        context: &Context,
        pod: &Pod,
        written: &str,
        name: &str,
        field: &str,
        sandbox: &pb::PodSandboxConfig,
    ) -> Result<Present, Failure> {
        let key = format!("{}_{name}", uid(pod));
        self.check_backoff(context, pod, written, field, &key)?;
        let auth = credentials(context, pod, name).await;
        let queued = base::clock::monotonic();
        let _slot = match &self.slots {
            Some(slots) => Some(slots.clone().acquire_owned().await.expect("the semaphore is never closed")),
            None => None,
        };
        context.event(pod, Some(field), EventType::Normal, "Pulling", format!("Pulling image {written:?}"));
        let started = base::clock::monotonic();
        let pulled = context.cri.pull_image(name, auth, Some(sandbox.clone())).await;
        let (took, waited) = (started.elapsed(), queued.elapsed());
        let failed = |text: String| {
            context.event(pod, Some(field), EventType::Warning, "Failed", format!("Failed to pull image {written:?}: {text}"));
            self.failures.lock().insert(key.clone(), format!("ErrImagePull: {text}"));
            let now = base::clock::unix_ms();
            self.backoff.lock().failed(&key, now, now);
            Failure::new("ErrImagePull", text)
        };
        let id = pulled.map_err(|error| failed(error.to_string()))?;
        let image = context.cri.image(&id).await.map_err(|error| failed(error.to_string()))?;
        let image = image.ok_or_else(|| failed(format!("image {id} vanished after its pull")))?;
        let note = format!(
            "Successfully pulled image {written:?} in {} ({} including waiting). Image size: {} bytes.",
            go_millis(took),
            go_millis(waited),
            image.size
        );
        context.event(pod, Some(field), EventType::Normal, "Pulled", note);
        self.failures.lock().remove(&key);
        self.backoff.lock().forget(&key);
        Ok(Present { id: image.id, uid: image.uid.map(|uid| uid.value), user: image.username })
    }

    fn check_backoff(&self, context: &Context, pod: &Pod, written: &str, field: &str, key: &str) -> Result<(), Failure> {
        if self.backoff.lock().left_since_update(key, base::clock::unix_ms()).is_none() {
            return Ok(());
        }
        let cause = self.failures.lock().get(key).cloned().unwrap_or_default();
        let text = format!("Back-off pulling image {written:?}");
        context.event(pod, Some(field), EventType::Normal, "BackOff", text.clone());
        Err(Failure::new("ImagePullBackOff", format!("{text}: {cause}")))
    }
}

fn go_millis(duration: Duration) -> String {
    if duration < Duration::from_secs(1) { format!("{}ms", duration.as_millis()) } else { format!("{:.3}s", duration.as_secs_f64()) }
}

/// The name with `:latest` where it has neither tag nor digest; `None` when it is no image name
/// (github.com/distribution/reference's grammar, without its length rules).
pub fn with_default_tag(name: &str) -> Option<String> {
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest[slash..].find(':') {
        Some(at) => (&rest[..slash + at], Some(&rest[slash + at + 1..])),
        None => (rest, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let tag_ok = tag.is_none_or(|tag| !tag.is_empty() && tag.len() <= 128 && !tag.starts_with(['.', '-']) && tag.chars().all(word));
    let digest_ok = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(kind, hex)| !kind.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let mut parts = path.split('/').peekable();
    let mut first = true;
    let mut path_ok = !path.is_empty();
    while let Some(part) = parts.next() {
        // A first part with a dot, a port or capitals is a host name.
        let host = first && parts.peek().is_some() && (part.contains(['.', ':']) || part == "localhost");
        let allowed = |c: char| if host { word(c) || c == ':' } else { word(c) && !c.is_ascii_uppercase() };
        let edges = part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.ends_with(|c: char| c.is_ascii_alphanumeric());
        path_ok &= edges && part.chars().all(allowed);
        first = false;
    }
    if !(path_ok && tag_ok && digest_ok) {
        return None;
    }
    Some(if tag.is_none() && digest.is_none() { format!("{name}:latest") } else { name.to_owned() })
}

/// The registry of an image: its first part where that looks like a host, else Docker's.
fn registry(name: &str) -> &str {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "index.docker.io",
    }
}

/// The first of the pod's pull secrets that fits the image's registry. A secret that cannot be read is skipped, as upstream
/// (the pull then fails with the registry's own error).
async fn credentials(context: &Context, pod: &Pod, name: &str) -> Option<pb::AuthConfig> {
    let host = registry(name);
    for reference in spec(pod).image_pull_secrets.iter().flatten() {
        let secret = match context.objects.secret(namespace(pod), &reference.name).await {
            Ok(secret) => secret,
            Err(error) => {
                let note = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    reference.name
                );
                context.event(pod, None, EventType::Warning, "FailedToRetrieveImagePullSecret", note);
                tracing::warn!(pod = super::described(pod), %error, "an image pull secret cannot be read");
                continue;
            }
        };
        let data = secret.data.unwrap_or_default();
        let auths = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
            (Some(bytes), _) => serde_json::from_slice::<serde_json::Value>(&bytes.0).map(|mut value| value["auths"].take()),
            (None, Some(bytes)) => serde_json::from_slice(&bytes.0),
            (None, None) => continue,
        };
        match auths {
            Ok(auths) => {
                if let Some(auth) = find_auth(&auths, host) {
                    return Some(auth);
                }
            }
            Err(error) => tracing::warn!(secret = reference.name, %error, "an image pull secret is not a docker configuration"),
        }
    }
    None
}

fn find_auth(auths: &serde_json::Value, host: &str) -> Option<pb::AuthConfig> {
    let strip = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        key.split('/').next().unwrap_or_default().to_owned()
    };
    let (_, entry) =
        auths.as_object()?.iter().find(|(key, _)| strip(key) == host || (host == "index.docker.io" && strip(key) == "docker.io"))?;
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if username.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text("auth")).ok()?;
        let pair = String::from_utf8(bytes).ok()?;
        let (user, secret) = pair.split_once(':')?;
        (username, password) = (user.to_owned(), secret.to_owned());
    }
    Some(pb::AuthConfig { username, password, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expected: Option<&str>| assert_eq!(with_default_tag(name).as_deref(), expected, "{name}");
        check("busybox", Some("busybox:latest"));
        check("busybox:1.36", Some("busybox:1.36"));
        check("registry.k8s.io/pause:3.10", Some("registry.k8s.io/pause:3.10"));
        check("localhost:5000/a/b", Some("localhost:5000/a/b:latest"));
        check("a@sha256:0123456789abcdef0123456789abcdef", Some("a@sha256:0123456789abcdef0123456789abcdef"));
        check("Busybox", None);
        check("", None);
        check("a b", None);
        check("a:", None);
        check("-a", None);
        check("a//b", None);
    }

    #[test]
    fn credentials_by_registry() {
        let auths = serde_json::json!({"https://r.example/v1/": {"auth": "dTpw"}, "q.example": {"username": "x", "password": "y"}});
        assert_eq!(find_auth(&auths, "r.example").map(|auth| (auth.username, auth.password)), Some(("u".into(), "p".into())));
        assert_eq!(find_auth(&auths, "q.example").map(|auth| auth.username), Some("x".into()));
        assert!(find_auth(&auths, "other").is_none());
    }
}
