//! Netlink messages as bytes: a header of 16 bytes, a fixed body, then attributes, each a length, a type and a value
//! that ends on a multiple of four. Lengths and numbers are in the host's byte order.

use super::flag;

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
/// The two highest bits of an attribute's type say how its value is coded.
const TYPE_MASK: u16 = 0x3fff;

/// A message to the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request with its fixed body.
    pub(crate) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(body);
        Self { bytes }.padded()
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.padded()
    }

    /// Adds an attribute that holds attributes.
    pub(crate) fn with_nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self = fill(self.with(kind, &[]));
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// With the wish to be told when it is done.
    pub(crate) fn acknowledged(mut self) -> Self {
        let flags = read_u16(&self.bytes, 6).unwrap_or_default() | flag::ACK;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    fn padded(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// The message with its length and a number by which the answer is known.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// The messages of one datagram; what is cut off is left out.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = read_u32(bytes, 0)? as usize;
        let message = Received {
            kind: read_u16(bytes, 4)?,
            flags: read_u16(bytes, 6)?,
            sequence: read_u32(bytes, 8)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

/// The attributes that follow a fixed body of this length.
pub(crate) fn attributes(message: &[u8], body: usize) -> Attributes<'_> {
    Attributes(message.get(body..).unwrap_or_default())
}

impl<'a> Attributes<'a> {
    /// The value of an attribute.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter()
            .find(|(other, _)| *other == kind)
            .map(|(_, value)| value)
    }

    /// The value of an attribute that is a number.
    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        read_u32(self.get(kind)?, 0)
    }

    /// The value of an attribute that is text, with or without the zero at its end.
    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let value = self.get(kind)?;
        let value = value.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The attributes within an attribute.
    pub(crate) fn nested(self, kind: u16) -> Self {
        Self(self.get(kind).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(read_u16(self.0, 0)?);
        let kind = read_u16(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Two bytes in the host's order.
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Four bytes in the host's order.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let request = Request::new(18, flag::DUMP, &[1, 2, 3, 4, 5])
            .with(3, b"eth0\0")
            .with_nested(18, |inner| {
                inner.with(1, b"veth").with(7, &9_u32.to_ne_bytes())
            });
        let bytes = request.finish(77);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].sequence), (18, 77));
        assert_eq!(all[0].flags, flag::DUMP | flag::REQUEST);
        let found = attributes(all[0].body, 8);
        assert_eq!(found.text(3).as_deref(), Some("eth0"));
        assert_eq!(found.nested(18).text(1).as_deref(), Some("veth"));
        assert_eq!(found.nested(18).number(7), Some(9));
        assert_eq!(found.get(99), None);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let bytes = Request::new(16, 0, &[0; 16]).with(3, b"eth0\0").finish(1);
        for end in 0..bytes.len() {
            assert_eq!(messages(&bytes[..end]).count(), 0, "{end}");
        }
        assert_eq!(messages(&[0; 64]).count(), 0, "no length goes nowhere");
        assert_eq!(attributes(&[0; 64], 0).count(), 0, "no length goes nowhere");
        assert_eq!(attributes(&[1, 2], 16).count(), 0);
    }
}
