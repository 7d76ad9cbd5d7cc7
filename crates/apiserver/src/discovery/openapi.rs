//! `/openapi/v2` and `/openapi/v3`: made when first asked for, kept compressed.

use std::sync::Arc;

use api::StatusError;
use bytes::Bytes;
use hashbrown::HashMap;
use http::header::{CONTENT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Request, Response};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::transport::body::Body;
use crate::transport::response::{self, no_such_page};

/// The media type of the answer; clients ask for it by this name or the older one.
/// Upstream: pkg/handler/handler.go of kubernetes/kube-openapi.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Json,
    Protobuf,
}

struct Packed {
    gzip: Bytes,
    etag: HeaderValue,
}

#[derive(Default)]
pub struct OpenApi {
    made: Mutex<HashMap<(String, Form), Arc<Packed>>>,
}

impl OpenApi {
    /// `path` without a trailing slash, below `/openapi`.
    pub async fn serve(self: &Arc<Self>, request: &Request<()>, path: &str) -> Result<Response<Body>, StatusError> {
        let accept = request.headers().get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let form = if path == "/openapi/v2" && wants_protobuf(accept) { Form::Protobuf } else { Form::Json };
        let Some(document) = self.document(path.to_owned(), form).await? else { return Ok(no_such_page()) };
        let kind = HeaderValue::from_static(if form == Form::Json { "application/json" } else { V2_PROTOBUF });
        let mut response = if request.headers().get(IF_NONE_MATCH).is_some_and(|tag| *tag == document.etag) {
            response::respond(304, kind, Body::empty())
        } else {
            let encodings = request.headers().get(http::header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
            if encodings.contains("gzip") {
                let mut response = response::respond(200, kind, document.gzip.clone());
                response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                response
            } else {
                response::respond(200, kind, unpack(&document.gzip)?)
            }
        };
        response.headers_mut().insert(ETAG, document.etag.clone());
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
        Ok(response)
    }

    async fn document(self: &Arc<Self>, path: String, form: Form) -> Result<Option<Arc<Packed>>, StatusError> {
        let key = (path, form);
        if let Some(found) = self.made.lock().get(&key) {
            return Ok(Some(found.clone()));
        }
        // Seconds of work in an unoptimised build: not on a thread that serves others.
        let this = self.clone();
        let made = tokio::task::spawn_blocking(move || {
            let Some(bytes) = make(&key.0, form) else { return Ok(None) };
            let packed = Arc::new(pack(&bytes)?);
            this.made.lock().insert(key, packed.clone());
            Ok(Some(packed))
        });
        made.await.map_err(StatusError::internal)?
    }
}

/// JSON where both are taken: it is what every client reads.
fn wants_protobuf(accept: &str) -> bool {
    let kinds = || accept.split(',').filter_map(|clause| clause.split(';').next()).map(str::trim);
    kinds().any(|kind| kind == V2_PROTOBUF || kind == V2_PROTOBUF_OLD) && kinds().all(|kind| kind != "application/json")
}

fn make(path: &str, form: Form) -> Option<Bytes> {
    let rows = kinds::rows();
    match (path, form) {
        ("/openapi/v2", Form::Json) => return Some(kinds::openapi::v2(rows)),
        ("/openapi/v2", Form::Protobuf) => return Some(kinds::openapi::v2_protobuf(rows)),
        ("/openapi/v3", _) => return Some(kinds::openapi::v3_index(rows)),
        _ => {}
    }
    let rest = path.strip_prefix("/openapi/v3/")?;
    if let Some(version) = rest.strip_prefix("api/") {
        return kinds::openapi::v3(rows, "", version);
    }
    let (group, version) = rest.strip_prefix("apis/")?.split_once('/')?;
    kinds::openapi::v3(rows, group, version)
}

fn pack(bytes: &[u8]) -> Result<Packed, StatusError> {
    use std::io::Write;
    let etag = HeaderValue::from_str(&format!("\"{}\"", super::hex(&Sha256::digest(bytes)))).map_err(StatusError::internal)?;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).map_err(StatusError::internal)?;
    Ok(Packed { gzip: encoder.finish().map_err(StatusError::internal)?.into(), etag })
}

fn unpack(gzip: &[u8]) -> Result<Bytes, StatusError> {
    use std::io::Read;
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut out).map_err(StatusError::internal)?;
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_by_either_name() {
        let check = |accept: &str, expected: bool| assert_eq!(wants_protobuf(accept), expected, "{accept}");
        check(V2_PROTOBUF, true);
        check(V2_PROTOBUF_OLD, true);
        check("application/com.github.proto-openapi.spec.v2@v1.0+protobuf;q=0.9, text/html", true);
        check("application/json, application/com.github.proto-openapi.spec.v2@v1.0+protobuf", false);
        check("application/json", false);
        check("*/*", false);
        check("", false);
    }
}
