//! Makes tars byte by byte, also ones that no tar program would write.

pub(crate) const BLOCK: usize = 512;

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) content: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
    /// What the header says of the size, when that is not the content's.
    pub(crate) size: Option<[u8; 12]>,
    pub(crate) pax: Vec<(Vec<u8>, Vec<u8>)>,
}

fn entry(kind: u8, path: &str) -> Entry {
    Entry {
        path: path.into(),
        kind,
        content: Vec::new(),
        link: Vec::new(),
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        owner: (0, 0),
        mtime: 1_000_000_000,
        device: (0, 0),
        size: None,
        pax: Vec::new(),
    }
}

pub(crate) fn file(path: &str, content: impl AsRef<[u8]>) -> Entry {
    Entry { content: content.as_ref().to_vec(), ..entry(b'0', path) }
}

pub(crate) fn directory(path: &str) -> Entry {
    entry(b'5', path)
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    Entry { link: target.into(), mode: 0o777, ..entry(b'2', path) }
}

pub(crate) fn hard_link(path: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..entry(b'1', path) }
}

pub(crate) fn device(kind: u8, path: &str, major: u32, minor: u32) -> Entry {
    Entry { device: (major, minor), ..entry(kind, path) }
}

impl Entry {
    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn owner(self, uid: u32, gid: u32) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    pub(crate) fn kind(self, kind: u8) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn size(self, size: &[u8; 12]) -> Self {
        Self { size: Some(*size), ..self }
    }

    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.into(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.pax.is_empty() {
            let records: Vec<u8> = self.pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            bytes.extend(Entry { content: records, ..entry(b'x', "pax") }.bytes());
        }
        bytes.extend(self.header());
        bytes.extend(&self.content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn header(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path[..self.path.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.owner.0).as_bytes());
        put(116, format!("{:07o}", self.owner.1).as_bytes());
        put(124, format!("{:011o}", self.content.len()).as_bytes());
        if let Some(size) = &self.size {
            put(124, size);
        }
        put(136, format!("{:011o}", self.mtime).as_bytes());
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        checksum(&mut block);
        block
    }
}

pub(crate) fn checksum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

pub(crate) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Entry::bytes).collect();
    bytes.extend([0; 2 * BLOCK]);
    bytes
}
