//! Header blocks: names and values, compressed by one zlib stream per direction with SPDY/3's dictionary (draft-mbelshe-httpbis-spdy-00 section 2.6.10).

use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::FrameError;

/// More than any peer sends; keeps a compressed bomb small.
const MAX_BLOCK_BYTES: usize = 64 * 1024;

/// The words of the dictionary that are stored with a 32-bit length before them.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// The rest of the dictionary, without lengths.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information\
204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS {
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
});

pub type Headers = Vec<(String, String)>;

/// Compresses the blocks of one direction, in order.
pub struct Encoder(Compress);

impl Encoder {
    pub fn new() -> Result<Self, FrameError> {
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.set_dictionary(&DICTIONARY).map_err(|error| FrameError::Headers(error.to_string()))?;
        Ok(Self(zlib))
    }

    pub fn encode(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, FrameError> {
        let mut plain = Vec::new();
        plain.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        for (name, value) in headers {
            for text in [name.to_ascii_lowercase().as_bytes(), value.as_bytes()] {
                plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
                plain.extend_from_slice(text);
            }
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let (before, mut used) = (self.0.total_in(), 0);
        loop {
            self.0
                .compress_vec(&plain[used..], &mut packed, FlushCompress::Sync)
                .map_err(|error| FrameError::Headers(error.to_string()))?;
            used = (self.0.total_in() - before) as usize;
            if used == plain.len() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(256);
        }
    }
}

/// Decompresses the blocks of one direction, in order.
pub struct Decoder(Decompress);

impl Decoder {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn decode(&mut self, packed: &[u8]) -> Result<Headers, FrameError> {
        let fault = |error: flate2::DecompressError| FrameError::Headers(error.to_string());
        let mut plain = Vec::with_capacity(1024);
        let before = self.0.total_in();
        loop {
            let used = (self.0.total_in() - before) as usize;
            match self.0.decompress_vec(&packed[used..], &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(fault)?;
                    continue;
                }
                Err(error) => return Err(fault(error)),
            }
            let used = (self.0.total_in() - before) as usize;
            if used == packed.len() && plain.len() < plain.capacity() {
                break;
            }
            if plain.len() >= MAX_BLOCK_BYTES {
                return Err(FrameError::Headers("a header block is too large".into()));
            }
            plain.reserve(4096);
        }
        parse(&plain)
    }
}

fn parse(plain: &[u8]) -> Result<Headers, FrameError> {
    let mut rest = plain;
    let count = take_length(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        headers.push((take_text(&mut rest)?, take_text(&mut rest)?));
    }
    Ok(headers)
}

fn take_length(rest: &mut &[u8]) -> Result<usize, FrameError> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    *rest = after;
    Ok(u32::from_be_bytes(*length) as usize)
}

fn take_text(rest: &mut &[u8]) -> Result<String, FrameError> {
    let length = take_length(rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or_else(cut)?;
    *rest = after;
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn cut() -> FrameError {
    FrameError::Headers("a header block is cut short".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dictionary's Adler-32, which every peer checks (RFC 1950: it is the id in the stream's header).
    #[test]
    fn the_dictionary_is_the_specified_one() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in DICTIONARY.iter() {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!(DICTIONARY.len(), 1423);
        assert_eq!((b << 16) | a, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_follow_one_another() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
        for value in ["stdin", "stdout", &"x".repeat(10_000)] {
            let packed = encoder.encode(&[("streamType", value), ("port", "80")]).unwrap();
            let headers = decoder.decode(&packed).unwrap();
            assert_eq!(headers, [("streamtype".to_owned(), value.to_owned()), ("port".to_owned(), "80".to_owned())]);
        }
    }

    #[test]
    fn rubbish_is_an_error() {
        for seed in 0..200u8 {
            let bytes: Vec<u8> = (0..30u8).map(|at| seed.wrapping_mul(31).wrapping_add(at * 7)).collect();
            assert!(Decoder::new().decode(&bytes).is_err());
        }
        assert!(parse(&[0, 0, 0, 9, 0, 0]).is_err());
        assert!(parse(&[0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
