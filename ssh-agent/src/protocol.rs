//! The messages of the protocol: a length, a type, and what that type holds.
//!
//! Spec: draft-ietf-sshm-ssh-agent, sections 3 and 5.

use std::io::{self, Read, Write};

/// Bytes of the longest message that is read, as in OpenSSH.
const LONGEST: u32 = 256 << 10;

pub(crate) const FAILURE: u8 = 5;
pub(crate) const REQUEST_IDENTITIES: u8 = 11;
pub(crate) const IDENTITIES_ANSWER: u8 = 12;
pub(crate) const SIGN_REQUEST: u8 = 13;
pub(crate) const SIGN_RESPONSE: u8 = 14;

/// Reads a message, without its length; `None` when the other side has closed.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length);
    if length == 0 || length > LONGEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut message = vec![0; length as usize];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Writes a message with its length.
pub(crate) fn write(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(message.len() + 4);
    put_string(&mut bytes, message);
    to.write_all(&bytes)
}

/// Appends a number.
pub(crate) fn put_number(to: &mut Vec<u8>, number: u32) {
    to.extend_from_slice(&number.to_be_bytes());
}

/// Appends a length and that many bytes.
pub(crate) fn put_string(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, u32::try_from(bytes.len()).expect("nothing here has 4 GiB"));
    to.extend_from_slice(bytes);
}

/// Appends a positive number of any length: no leading zeros, but one where the first bit would be a sign.
pub(crate) fn put_positive(to: &mut Vec<u8>, bytes: &[u8]) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = &bytes[zeros..];
    let sign = digits.first().filter(|first| **first >= 0x80).map(|_| 0);
    let number: Vec<u8> = sign.into_iter().chain(digits.iter().copied()).collect();
    put_string(to, &number);
}

/// Takes a number off the front.
pub(crate) fn take_number(from: &mut &[u8]) -> Option<u32> {
    let (number, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u32::from_be_bytes(*number))
}

/// Takes a length and that many bytes off the front.
pub(crate) fn take_string<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_number(from)?;
    let (string, rest) = from.split_at_checked(length as usize)?;
    *from = rest;
    Some(string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_lie_about_their_length_are_refused() {
        assert_eq!(read(&mut &b"\0\0\0\x02ab"[..]).unwrap().unwrap(), b"ab");
        assert!(read(&mut &b""[..]).unwrap().is_none());
        for bytes in [&b"\0\0\0\0"[..], b"\xff\xff\xff\xffa", b"\0\x04\0\x01a", b"\0\0\0\x03ab"] {
            assert!(read(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn strings_and_numbers_are_read_as_they_are_written() {
        let mut bytes = Vec::new();
        put_string(&mut bytes, b"blob");
        put_number(&mut bytes, 7);
        put_positive(&mut bytes, &[0, 0, 0x80, 1]);
        put_positive(&mut bytes, &[0, 0x7f]);
        let mut rest = &bytes[..];
        assert_eq!(take_string(&mut rest), Some(&b"blob"[..]));
        assert_eq!(take_number(&mut rest), Some(7));
        assert_eq!(take_string(&mut rest), Some(&b"\0\x80\x01"[..]));
        assert_eq!(take_string(&mut rest), Some(&b"\x7f"[..]));
        assert_eq!(take_string(&mut rest), None);
        assert_eq!(take_string(&mut &b"\0\0\0\x09short"[..]), None);
    }
}
