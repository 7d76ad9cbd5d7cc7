//! PUT, and the stages that patches share with it: from the stored object and a wanted one to a stored one.

use api::{FieldErrors, Path, StatusError};
use bytes::Bytes;
use http::Response;
use kinds::Object;
use serde_json::Value;

use super::call::Call;
use super::write::{self, Ownership};
use super::{body, convert, create, get, sub};
use crate::admission::Operation;
use crate::cache::Entry;
use crate::transport::body::Body;

/// Upstream gives patches five tries (maxRetryWhenPatchConflicts); unconditional updates try for longer.
const ATTEMPTS: usize = 25;
pub const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";

/// The object as it is stored now.
pub struct Current {
    pub entry: Entry,
    pub object: Box<dyn Object>,
}

/// What became of an update.
pub enum Updated {
    Stored(Entry),
    /// Its last finalizer went while it was being deleted.
    Removed(Entry),
}

impl Updated {
    pub fn entry(&self) -> &Entry {
        let (Self::Stored(entry) | Self::Removed(entry)) = self;
        entry
    }
}

pub async fn update(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let wanted = body::object(call, bytes)?;
    let mut wanted = body::normal(call, wanted.as_ref())?;
    let name = call.name().to_owned();
    let given = wanted.meta().name.as_deref().unwrap_or_default();
    if given.is_empty() {
        wanted.meta_mut().name = Some(name.clone());
    } else if given != name {
        return Err(StatusError::bad_request(format!("the name of the object ({given}) does not match the name on the URL ({name})")));
    }
    create::check_namespace(call, &mut wanted.meta_mut().namespace)?;
    let ownership = Ownership::Update(call.field_manager());
    if call.info().create_on_update && call.subresource().is_empty() && get::read(call, &name).await?.is_none() {
        call.authorize_also("create").await?;
        wanted.meta_mut().resource_version = None;
        let entry = create::create_object(call, wanted, ownership).await?;
        return get::reply(call, 201, &entry);
    }
    check_unconditional(call, wanted.as_ref())?;
    let updated = update_with(call, &mut |_, _| Ok(wanted.clone_object()), ownership).await?;
    get::reply(call, 200, updated.entry())
}

fn check_unconditional(call: &Call, wanted: &dyn Object) -> Result<(), StatusError> {
    let version = wanted.meta().resource_version.as_deref().unwrap_or_default();
    if !version.is_empty() || call.info().unconditional_update {
        return Ok(());
    }
    let mut errors = FieldErrors::default();
    errors.invalid(&Path::new("metadata").child("resourceVersion"), 0, "must be specified for an update");
    write::invalid(call, call.name(), &errors)
}

/// Makes the wanted object from the stored one.
pub type Make<'m> = dyn FnMut(&mut Call, &Current) -> Result<Box<dyn Object>, StatusError> + Send + 'm;

/// Reads, makes, runs every stage, swaps; again from the start when somebody else was quicker.
pub async fn update_with(call: &mut Call, make: &mut Make<'_>, ownership: Ownership) -> Result<Updated, StatusError> {
    let name = call.name().to_owned();
    for _ in 0..ATTEMPTS {
        let entry = get::read(call, &name).await?.ok_or_else(|| call.not_found(&name))?;
        let object = convert::decode(&call.resource, &entry)?;
        let current = Current { entry, object };
        let wanted = make(call, &current)?;
        if let Some(done) = swap(call, &current, wanted, &ownership).await? {
            return Ok(done);
        }
        call.warnings.clear();
    }
    Err(conflict(call, &name, MODIFIED))
}

pub fn conflict(call: &Call, name: &str, cause: &str) -> StatusError {
    StatusError::conflict(call.info().group, call.info().resource, name, cause)
}

/// All stages on one attempt; `None`: the stored object changed meanwhile.
async fn swap(
    call: &mut Call,
    current: &Current,
    mut wanted: Box<dyn Object>,
    ownership: &Ownership,
) -> Result<Option<Updated>, StatusError> {
    let dry_run = call.is_dry_run()?;
    let row = call.resource.row;
    let old = current.object.as_ref();
    let name = current.entry.name().to_owned();
    check_identity(call, &current.entry, old, wanted.as_ref())?;
    write::keep_owned(wanted.meta_mut(), old.meta());
    row.default_fields(wanted.as_mut());
    let warnings = {
        let mut request = write::admission(call, Operation::Update, &name, dry_run, Some(wanted.as_mut()), Some(old));
        call.core.admission.mutate(&mut request).await?;
        std::mem::take(&mut request.warnings)
    };
    call.warnings.extend(warnings);
    row.default_fields(wanted.as_mut());
    sub::prepare(call, wanted.as_mut(), old);
    let reserved = match call.subresource() {
        "" => Some(call.core.effects.reserve(wanted.as_mut(), Some(old), dry_run)?),
        _ => None,
    };
    // Neither is a change of what is wanted: upstream's strategies count in PrepareForUpdate, which a binding does not pass.
    let counts = call.info().has_generation && !matches!(call.subresource(), "status" | "binding");
    if counts && row.spec_changed(wanted.as_ref(), old) {
        wanted.meta_mut().generation = Some(old.meta().generation.unwrap_or(0) + 1);
    }
    validate(call, &name, wanted.as_ref(), old)?;
    let warnings = {
        let mut request = write::admission(call, Operation::Update, &name, dry_run, Some(wanted.as_mut()), Some(old));
        call.core.admission.validate(&mut request).await?;
        request.warnings
    };
    call.warnings.extend(warnings);
    let before: Value = {
        let value = serde_json::from_slice(&current.entry.value).map_err(StatusError::internal)?;
        convert::from_stored(&call.resource, value)
    };
    let value = write::finish(call, wanted.as_ref(), Some(&before), ownership);
    let goes = wanted.meta().deletion_timestamp.is_some()
        && wanted.meta().deletion_grace_period_seconds.unwrap_or(0) == 0
        && write::is_held(old)
        && !write::is_held(wanted.as_ref());
    let is_same = value == before;
    let bytes = if is_same { current.entry.value.clone() } else { write::encode(call, value)? };
    if (is_same && !goes) || dry_run {
        return Ok(Some(Updated::Stored(write::unwritten(call, &name, bytes, current.entry.revision)?)));
    }
    if goes {
        let Some(revision) = write::remove(call, &name, current.entry.revision).await? else { return Ok(None) };
        call.core.effects.released(old);
        return Ok(Some(Updated::Removed(write::unwritten(call, &name, bytes, revision)?)));
    }
    let stored = write::put(call, &name, bytes, current.entry.revision).await?;
    if let (Some(_), Some(reserved)) = (&stored, reserved) {
        reserved.commit();
    }
    Ok(stored.map(Updated::Stored))
}

/// The object must be the one that the caller has seen.
fn check_identity(call: &Call, entry: &Entry, old: &dyn Object, wanted: &dyn Object) -> Result<(), StatusError> {
    let version = wanted.meta().resource_version.as_deref().unwrap_or_default();
    if !version.is_empty() && version != "0" && version != entry.revision.to_string() {
        if version.parse::<u64>().is_err() {
            let mut errors = FieldErrors::default();
            errors.invalid(&Path::new("metadata").child("resourceVersion"), version, "resource version is not a number");
            return write::invalid(call, entry.name(), &errors);
        }
        return Err(conflict(call, entry.name(), MODIFIED));
    }
    let (uid, is) = (wanted.meta().uid.as_deref().unwrap_or_default(), old.meta().uid.as_deref().unwrap_or_default());
    if !uid.is_empty() && uid != is {
        let cause = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {is}");
        return Err(conflict(call, entry.name(), &cause));
    }
    Ok(())
}

fn validate(call: &mut Call, name: &str, wanted: &dyn Object, old: &dyn Object) -> Result<(), StatusError> {
    let row = call.resource.row;
    let mut errors = FieldErrors::default();
    kinds::validation::object_meta(call.info(), wanted.meta(), &mut errors);
    kinds::validation::object_meta_update(wanted.meta(), old.meta(), &mut errors);
    match call.subresource() {
        "" => {
            row.validate(wanted, &mut errors);
            row.validate_update(wanted, old, &mut errors);
            call.warnings.extend(row.warnings(wanted));
        }
        "status" => row.validate_status_update(wanted, old, &mut errors),
        // These change what an update may not (a binding the node's name, a resize the resources): the object must be right, not the change.
        part => {
            row.validate(wanted, &mut errors);
            row.validate_part(wanted, part, old, &mut errors);
        }
    }
    write::invalid(call, name, &errors)
}
