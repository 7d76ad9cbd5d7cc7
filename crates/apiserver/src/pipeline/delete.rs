//! DELETE of one object and of a collection: preconditions, grace, finalizers (upstream: registry/rest/delete.go, registry/generic/registry/store.go).

use api::core::v1::{Namespace, Pod};
use api::meta::v1::{DeleteOptions, ObjectMeta, Status, StatusDetails, Time};
use api::{Reason, StatusError};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http::{HeaderValue, Response};
use kinds::Object;

use super::call::{Call, dry_run};
use super::update::conflict;
use super::write::{self, Ownership};
use super::{body, convert, get, list};
use crate::admission::Operation;
use crate::cache::Entry;
use crate::transport::body::Body;
use crate::transport::response::respond;

const ATTEMPTS: usize = 25;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds that answer with the deleted object instead of a Status (ReturnDeletedObject in upstream's registry).
const RETURNS_OBJECT: &[&str] =
    &["pods", "services", "podtemplates", "resourcequotas", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims"];

pub async fn delete(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let options = options(call, bytes)?;
    let dry = dry_run(call.query.all("dryRun"))? || dry_run(options.dry_run.iter().flatten().map(String::as_str))?;
    let name = call.name().to_owned();
    let done = delete_one(call, &name, &options, dry).await?;
    let info = call.info();
    if let Deleted::Marked(entry) = &done {
        let waits = options.propagation_policy.as_deref() == Some("Foreground") || options.orphan_dependents == Some(false);
        return get::reply(call, if waits { 202 } else { 200 }, entry);
    }
    let Deleted::Gone(entry, uid) = done else { return Err(StatusError::internal("a delete without an outcome")) };
    if info.group.is_empty() && RETURNS_OBJECT.contains(&info.resource) {
        return get::reply(call, 200, &entry);
    }
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    let details = StatusDetails {
        name: text(&name),
        group: text(info.group),
        kind: text(info.resource),
        uid: text(&uid),
        ..StatusDetails::default()
    };
    let status = Status { status: Some("Success".into()), details: Some(details), ..Status::default() };
    let json = serde_json::to_vec(&status).map_err(StatusError::internal)?;
    let view = crate::transport::negotiate::View { shape: crate::transport::negotiate::Shape::Object, ..call.view };
    Ok(respond(200, HeaderValue::from_static(view.media.content_type()), super::encode::media(json.into(), view)?))
}

pub async fn delete_collection(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let options = options(call, bytes)?;
    let dry = dry_run(call.query.all("dryRun"))? || dry_run(options.dry_run.iter().flatten().map(String::as_str))?;
    let found = list::find(call).await?;
    let shared = &*call;
    let deletes: Vec<_> = found.entries.iter().map(|entry| delete_one(shared, entry.name(), &options, dry).boxed()).collect();
    let results: Vec<Result<Deleted, StatusError>> = futures::stream::iter(deletes).buffered(8).collect().await;
    for result in results {
        match result {
            Err(error) if !error.is(Reason::NotFound) => return Err(error),
            _ => {}
        }
    }
    list::reply(call.resource.clone(), call.view, found)
}

/// From the body, else from the query.
fn options(call: &Call, bytes: &Bytes) -> Result<DeleteOptions, StatusError> {
    let mut options = DeleteOptions::default();
    if !bytes.is_empty() {
        let json = body::json(call, bytes)?;
        options = serde_json::from_slice(&json)
            .map_err(|e| StatusError::bad_request(format!("DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: {e}")))?;
    } else {
        if let Some(text) = call.query.text("gracePeriodSeconds") {
            let seconds = text.parse().map_err(|_| StatusError::bad_request("gracePeriodSeconds: Invalid value: must be a number"))?;
            options.grace_period_seconds = Some(seconds);
        }
        options.propagation_policy = call.query.text("propagationPolicy").map(str::to_owned);
        options.orphan_dependents = call.query.has("orphanDependents").then(|| call.query.flag("orphanDependents"));
    }
    check_options(&options)?;
    Ok(options)
}

/// Upstream: ValidateDeleteOptions in apimachinery/pkg/apis/meta/v1/validation.
fn check_options(options: &DeleteOptions) -> Result<(), StatusError> {
    let mut errors = api::FieldErrors::default();
    let path = api::Path::new("propagationPolicy");
    let policy = options.propagation_policy.as_deref();
    if policy.is_some() && options.orphan_dependents.is_some() {
        errors.invalid(&path, policy.unwrap_or_default(), "orphanDependents and deletionPropagation cannot be both set");
    }
    if let Some(policy) = policy.filter(|p| !matches!(*p, "Foreground" | "Background" | "Orphan")) {
        errors.not_supported(&path, policy, &["Background", "Foreground", "Orphan"]);
    }
    if errors.is_empty() { Ok(()) } else { Err(StatusError::invalid("meta.k8s.io", "DeleteOptions", "", &errors)) }
}

pub enum Deleted {
    /// It stays until finalizers or grace are over.
    Marked(Entry),
    /// With its uid.
    Gone(Entry, String),
}

/// Runs every stage of one delete.
pub async fn delete_one(call: &Call, name: &str, options: &DeleteOptions, dry_run: bool) -> Result<Deleted, StatusError> {
    for _ in 0..ATTEMPTS {
        let entry = get::read(call, name).await?.ok_or_else(|| call.not_found(name))?;
        let object = convert::decode(&call.resource, &entry)?;
        check_preconditions(call, &entry, object.meta(), options)?;
        {
            let mut request = write::admission(call, Operation::Delete, name, dry_run, None, Some(object.as_ref()));
            call.core.admission.mutate(&mut request).await?;
            call.core.admission.validate(&mut request).await?;
        }
        let uid = object.meta().uid.clone().unwrap_or_default();
        match plan(call, object.as_ref(), options)? {
            Plan::Wait => return Ok(Deleted::Marked(entry)),
            _ if dry_run => return Ok(Deleted::Gone(entry, uid)),
            Plan::Mark(marked) => {
                let value = write::encode(call, write::finish(call, marked.as_ref(), None, &Ownership::Keep))?;
                if let Some(entry) = write::put(call, name, value, entry.revision).await? {
                    return Ok(Deleted::Marked(entry));
                }
            }
            Plan::Remove => {
                if let Some(revision) = write::remove(call, name, entry.revision).await? {
                    call.core.effects.released(object.as_ref());
                    return Ok(Deleted::Gone(entry.at(revision), uid));
                }
            }
        }
    }
    Err(conflict(call, name, super::update::MODIFIED))
}

fn check_preconditions(call: &Call, entry: &Entry, meta: &ObjectMeta, options: &DeleteOptions) -> Result<(), StatusError> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    let uid = meta.uid.as_deref().unwrap_or_default();
    if let Some(seen) = wanted.uid.as_deref().filter(|seen| *seen != uid) {
        let cause = format!(
            "the UID in the precondition ({seen}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return Err(conflict(call, entry.name(), &cause));
    }
    let version = entry.revision.to_string();
    if let Some(seen) = wanted.resource_version.as_deref().filter(|seen| *seen != version) {
        let cause = format!(
            "the ResourceVersion in the precondition ({seen}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        );
        return Err(conflict(call, entry.name(), &cause));
    }
    Ok(())
}

enum Plan {
    /// It is on its way out already.
    Wait,
    /// To be stored so, with its deletion marks.
    Mark(Box<dyn Object>),
    Remove,
}

/// What a delete does to the object.
fn plan(call: &Call, object: &dyn Object, options: &DeleteOptions) -> Result<Plan, StatusError> {
    let mut marked = object.clone_object();
    if let Some(namespace) = marked.get_mut::<Namespace>() {
        let held = namespace.spec.as_ref().is_some_and(|s| s.finalizers.as_ref().is_some_and(|f| !f.is_empty()));
        if held && namespace.metadata.deletion_timestamp.is_some() {
            let cause = "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will automatically be purged by the system.";
            return Err(conflict(call, object.meta().name.as_deref().unwrap_or_default(), cause));
        }
        if held {
            namespace.status.get_or_insert_default().phase = Some("Terminating".into());
        }
    }
    set_finalizers(call, marked.meta_mut(), options);
    let held = write::is_held(marked.as_ref());
    let grace = if call.info().graceful_delete { grace_s(object, options) } else { None };
    let meta = marked.meta_mut();
    if let (Some(grace), Some(deletion)) = (grace, &meta.deletion_timestamp) {
        // A second delete may only shorten what the first one granted.
        match (options.grace_period_seconds, meta.deletion_grace_period_seconds) {
            (_, None) => {}
            (Some(_), Some(granted)) if grace < granted => {
                meta.deletion_timestamp = shift(deletion, grace - granted);
                meta.deletion_grace_period_seconds = Some(grace);
            }
            (_, Some(granted)) if granted > 0 || held => return Ok(Plan::Wait),
            _ => {}
        }
    } else if let Some(grace) = grace {
        let now = write::now();
        meta.deletion_timestamp = shift(&now, grace);
        meta.deletion_grace_period_seconds = Some(grace);
        meta.generation = meta.generation.filter(|g| *g > 0).map(|g| g + 1);
    } else if held && meta.deletion_timestamp.is_none() {
        meta.deletion_timestamp = Some(write::now());
        meta.deletion_grace_period_seconds = Some(0);
        meta.generation = meta.generation.filter(|g| *g > 0).map(|g| g + 1);
    }
    let waits = held || grace.is_some() && marked.meta().deletion_grace_period_seconds.unwrap_or(0) > 0;
    if !waits {
        return Ok(Plan::Remove);
    }
    let unchanged = marked.to_value() == object.to_value();
    Ok(if unchanged { Plan::Wait } else { Plan::Mark(marked) })
}

fn shift(time: &Time, seconds: i64) -> Option<Time> {
    time.0.checked_add(jiff::SignedDuration::from_secs(seconds)).ok().map(Time)
}

/// How long a pod may take to go (podStrategy.CheckGracefulDelete in registry/core/pod/strategy.go).
fn grace_s(object: &dyn Object, options: &DeleteOptions) -> Option<i64> {
    let pod = object.get::<Pod>()?;
    let spec = pod.spec.as_ref();
    let asked = options.grace_period_seconds.or(spec.and_then(|s| s.termination_grace_period_seconds)).unwrap_or(0);
    let is_bound = spec.and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
    let is_over = pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| matches!(p, "Failed" | "Succeeded"));
    Some(match asked {
        _ if !is_bound || is_over => 0,
        negative if negative < 0 => 1,
        seconds => seconds,
    })
}

/// The garbage collector's finalizers, as the propagation policy wants them (deletionFinalizersForGarbageCollection).
fn set_finalizers(call: &Call, meta: &mut ObjectMeta, options: &DeleteOptions) {
    let had = |name: &str| meta.finalizers.as_ref().is_some_and(|f| f.iter().any(|x| x == name));
    let info = call.info();
    // batch/v1 jobs and replication controllers orphan by default, for old clients.
    let orphans_by_default = matches!((info.group, info.resource), ("batch", "jobs") | ("", "replicationcontrollers"));
    let (orphan, foreground) = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => (true, false),
        (Some("Foreground"), _) => (false, true),
        (Some(_), _) | (None, Some(false)) => (false, false),
        (None, None) if had(ORPHAN) || had(FOREGROUND) => (had(ORPHAN), had(FOREGROUND)),
        (None, None) => (orphans_by_default, false),
    };
    let mut finalizers = meta.finalizers.take().unwrap_or_default();
    finalizers.retain(|name| name != ORPHAN && name != FOREGROUND);
    for (wanted, name) in [(orphan, ORPHAN), (foreground, FOREGROUND)] {
        if wanted {
            finalizers.push(name.to_owned());
        }
    }
    meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
}
