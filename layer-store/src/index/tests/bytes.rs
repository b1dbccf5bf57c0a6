//! The bytes of an index, by the numbers.

use super::shown::index;
use super::tar::{Entry, directory, file, tar};

/// Writes bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_index_of_one_file_is_known_byte_for_byte() {
    let at = |entry: Entry| Entry { mtime: 1_700_000_000, ..entry };
    let mut bytes = tar(&[at(directory("./")), at(file("./hi", "hello"))]);
    bytes.resize(20 * 512, 0);
    let (_, index) = index(&bytes).unwrap();
    let mut expected = vec![0_u8; 1536];
    let mut put = |at: usize, digits: &str| {
        let bytes: Vec<u8> =
            (0..digits.len() / 2).map(|n| u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).unwrap()).collect();
        expected[at..at + bytes.len()].copy_from_slice(&bytes);
    };
    put(1024, "e2e1f5e0595f969201000000090028000200000000000000");
    put(1024 + 36, "03000000");
    put(1024 + 80, "0c00000000000100 0900".replace(' ', "").as_str());
    put(1216, "14000000");
    put(1280, "05000000ed41000029000000 00000000ffffffff01000000".replace(' ', "").as_str());
    put(1280 + 32, "00f1536500000000 00000000 02000000".replace(' ', "").as_str());
    put(
        1344,
        "2800000000000000 2400 0200 2800000000000000 2500 0200 2c00000000000000 2700 0100".replace(' ', "").as_str(),
    );
    put(1380, "2e2e2e6869");
    put(1408, "09000000a481000005000000 00000000 20000000 02000000".replace(' ', "").as_str());
    put(1408 + 32, "00f1536500000000 00000000 01000000".replace(' ', "").as_str());
    put(1472, "0000010002000000");
    assert_eq!(hex(&index), hex(&expected));
}
