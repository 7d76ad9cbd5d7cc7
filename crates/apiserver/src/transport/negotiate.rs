//! What the client wants to get: media type, shape (object, Table, metadata only), pretty or not, compressed or not.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};

use super::query::Query;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Media {
    Json,
    Yaml,
    Protobuf,
}

impl Media {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    pub fn watch_content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml;stream=watch",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "application/json" | "*/*" | "application/*" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// What of the object goes into a Table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Include {
    None,
    Metadata,
    Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    Object,
    Table(Include),
    Metadata,
}

/// How a response is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub media: Media,
    pub shape: Shape,
    pub pretty: bool,
    pub gzip: bool,
}

impl View {
    pub const JSON: Self = Self { media: Media::Json, shape: Shape::Object, pretty: false, gzip: false };

    /// `None`: nothing that the client accepts can be sent (406).
    /// `has_protobuf`: whether that shape of the resource has a protobuf form.
    pub fn negotiate(headers: &HeaderMap, query: &Query, has_protobuf: impl Fn(Shape) -> bool) -> Option<Self> {
        let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
        let (media, shape) = clauses(accept)
            .filter_map(|clause| supported(clause, query))
            .find(|(media, shape)| *media != Media::Protobuf || has_protobuf(*shape))?;
        let encodings = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let gzip = encodings.split(',').any(|e| e.split(';').next().is_some_and(|name| name.trim() == "gzip"));
        Some(Self { media, shape, pretty: media == Media::Json && is_pretty(headers, query), gzip })
    }

    /// Tells apart the encodings of one watch event.
    pub fn frame_key(&self) -> u64 {
        let shape = match self.shape {
            Shape::Object => 0,
            Shape::Metadata => 1,
            Shape::Table(Include::None) => 2,
            Shape::Table(Include::Metadata) => 3,
            Shape::Table(Include::Object) => 4,
        };
        shape * 4 + self.media as u64
    }
}

/// The clauses of an Accept header, best first.
fn clauses(accept: &str) -> impl Iterator<Item = &str> {
    let mut list: Vec<(&str, u32)> = accept
        .split(',')
        .map(|clause| {
            let q = clause.split(';').skip(1).find_map(|p| p.trim().strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok());
            (clause.trim(), (q.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u32)
        })
        .filter(|(clause, q)| !clause.is_empty() && *q > 0)
        .collect();
    list.sort_by_key(|(_, q)| std::cmp::Reverse(*q));
    list.into_iter().map(|(clause, _)| clause)
}

fn supported(clause: &str, query: &Query) -> Option<(Media, Shape)> {
    let mut parts = clause.split(';').map(str::trim);
    let media = Media::parse(parts.next()?)?;
    let (mut kind, mut group, mut version) = ("", "", "");
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match key {
            "as" => kind = value,
            "g" => group = value,
            "v" => version = value,
            _ => {}
        }
    }
    if kind.is_empty() {
        return Some((media, Shape::Object));
    }
    if group != "meta.k8s.io" || version != "v1" {
        return None;
    }
    let shape = match kind {
        "Table" => Shape::Table(match query.get("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata,
        _ => return None,
    };
    Some((media, shape))
}

/// Upstream: isPrettyPrint in apiserver/pkg/endpoints/handlers/negotiation.
fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if query.has("pretty") {
        return query.flag("pretty");
    }
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
}

/// The media type of a request's body, lower-case, without parameters; JSON where none is given.
pub fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<(Media, Shape)>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        let seen = View::negotiate(&headers, &Query::default(), |shape| shape == Shape::Object).map(|v| (v.media, v.shape));
        assert_eq!(seen, expected, "{accept}");
    }

    #[test]
    fn negotiates() {
        let table = Shape::Table(Include::Metadata);
        check("*/*", Some((Media::Json, Shape::Object)));
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Media::Json, table)));
        check("application/json;as=Table;v=v9;g=meta.k8s.io,application/yaml", Some((Media::Yaml, Shape::Object)));
        check("application/yaml;q=0.5, application/vnd.kubernetes.protobuf", Some((Media::Protobuf, Shape::Object)));
        check("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some((Media::Json, Shape::Metadata)));
        let both = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io";
        check(both, Some((Media::Json, table)));
        check("text/html", None);
    }
}
