//! POST: a new object.

use api::StatusError;
use bytes::Bytes;
use http::Response;
use kinds::Object;
use rand::Rng;

use super::call::Call;
use super::write::{self, Ownership};
use super::{body, get};
use crate::admission::Operation;
use crate::cache::Entry;
use crate::transport::body::Body;

/// Upstream: maxNameLength, randomLength and the alphabet in apiserver/pkg/storage/names and apimachinery/pkg/util/rand.
const MAX_GENERATED_PREFIX: usize = 58;
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const GENERATE_ATTEMPTS: usize = 8;

pub async fn create(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let object = body::object(call, bytes)?;
    let manager = call.field_manager();
    let entry = create_object(call, object, Ownership::Update(manager)).await?;
    get::reply(call, 201, &entry)
}

/// Runs every stage of a create; a generated name that is taken is generated anew.
pub async fn create_object(call: &mut Call, mut object: Box<dyn Object>, ownership: Ownership) -> Result<Entry, StatusError> {
    place(call, object.as_mut())?;
    let prefix = object.meta().generate_name.clone().unwrap_or_default();
    if !is_empty(&object.meta().name) || prefix.is_empty() {
        return attempt(call, object, &ownership).await;
    }
    let mut tries = 0;
    loop {
        let mut named = object.clone_object();
        named.meta_mut().name = Some(generated_name(&prefix));
        tries += 1;
        match attempt(call, named, &ownership).await {
            Err(error) if tries < GENERATE_ATTEMPTS && error.is(api::Reason::AlreadyExists) => {}
            done => return done,
        }
    }
}

async fn attempt(call: &mut Call, mut object: Box<dyn Object>, ownership: &Ownership) -> Result<Entry, StatusError> {
    let dry_run = call.is_dry_run()?;
    let row = call.resource.row;
    let name = object.meta().name.clone().unwrap_or_default();
    init_meta(object.as_mut(), call.info().has_generation);
    row.default_fields(object.as_mut());
    let warnings = {
        let mut request = write::admission(call, Operation::Create, &name, dry_run, Some(object.as_mut()), None);
        call.core.admission.mutate(&mut request).await?;
        std::mem::take(&mut request.warnings)
    };
    call.warnings.extend(warnings);
    row.default_fields(object.as_mut());
    row.prepare_create(object.as_mut());
    let reserved = call.core.effects.reserve(object.as_mut(), None, dry_run)?;
    let mut errors = api::FieldErrors::default();
    kinds::validation::object_meta(call.info(), object.meta(), &mut errors);
    row.validate(object.as_ref(), &mut errors);
    write::invalid(call, &name, &errors)?;
    call.warnings.extend(row.warnings(object.as_ref()));
    let warnings = {
        let mut request = write::admission(call, Operation::Create, &name, dry_run, Some(object.as_mut()), None);
        call.core.admission.validate(&mut request).await?;
        request.warnings
    };
    call.warnings.extend(warnings);
    let value = write::encode(call, write::finish(call, object.as_ref(), None, ownership))?;
    let taken = || StatusError::already_exists(call.info().group, call.info().resource, &name);
    if dry_run {
        return match get::read(call, &name).await? {
            Some(_) => Err(taken()),
            None => write::unwritten(call, &name, value, 0),
        };
    }
    let entry = write::put(call, &name, value, 0).await?.ok_or_else(taken)?;
    reserved.commit();
    Ok(entry)
}

/// Puts the object into the request's namespace and checks that it says nothing else.
fn place(call: &Call, object: &mut dyn Object) -> Result<(), StatusError> {
    let meta = object.meta_mut();
    if !is_empty(&meta.resource_version) {
        return Err(StatusError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    check_namespace(call, &mut meta.namespace)?;
    if let Some(name) = &call.path.name {
        // Only apply and updates that create come here with a name.
        meta.name.get_or_insert_with(|| name.clone());
    }
    Ok(())
}

/// The namespace of an object is the request's, whether it says so or not.
pub fn check_namespace(call: &Call, namespace: &mut Option<String>) -> Result<(), StatusError> {
    let given = namespace.as_deref().unwrap_or_default();
    match call.namespace() {
        Some(wanted) if given.is_empty() => *namespace = Some(wanted.to_owned()),
        Some(wanted) if given != wanted => {
            return Err(StatusError::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
        }
        Some(_) => {}
        // A namespace on a cluster-scoped object is dropped without a word (rest.EnsureObjectNamespaceMatchesRequestNamespace).
        None => *namespace = None,
    }
    Ok(())
}

/// What a new object gets from the server (upstream: rest.BeforeCreate and FillObjectMetaSystemFields).
fn init_meta(object: &mut dyn Object, has_generation: bool) {
    let meta = object.meta_mut();
    meta.uid = Some(uuid::Uuid::new_v4().to_string());
    meta.creation_timestamp = Some(write::now());
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.self_link = None;
    meta.generation = has_generation.then_some(1);
}

fn is_empty(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

pub fn generated_name(prefix: &str) -> String {
    let mut end = prefix.len().min(MAX_GENERATED_PREFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    let mut random = rand::rng();
    name.extend((0..5).map(|_| char::from(SUFFIX_LETTERS[random.random_range(0..SUFFIX_LETTERS.len())])));
    name
}
