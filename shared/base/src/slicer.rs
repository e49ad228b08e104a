//! A tar archive into slices, whatever the portions in which it arrives.

use bytes::{Buf as _, Bytes};
use walferry_layout::base::TarArchive;

/// Cuts one archive.
pub(crate) struct Slicer {
    archive: TarArchive,
    size: usize,
    /// Of the slice that is being filled.
    number: u32,
    buffer: Vec<u8>,
}

/// A slice that is whole.
pub(crate) struct Cut {
    pub(crate) archive: TarArchive,
    pub(crate) number: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Slicer {
    pub(crate) fn new(archive: TarArchive, size: usize) -> Self {
        Self {
            archive,
            size,
            number: 0,
            buffer: Vec::new(),
        }
    }

    /// Whether the next byte is the first of a slice.
    pub(crate) fn at_start(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes from `bytes` what the current slice has room for, and gives the slice away when
    /// that fills it.
    pub(crate) fn push(&mut self, bytes: &mut Bytes) -> Option<Cut> {
        if self.buffer.capacity() == 0 {
            // Only the pages that are written to become memory.
            self.buffer.reserve_exact(self.size);
        }
        let take = bytes.len().min(self.size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..take]);
        bytes.advance(take);
        (self.buffer.len() == self.size).then(|| self.cut())
    }

    /// The rest; of an archive without a byte one empty slice, so that it is there.
    pub(crate) fn finish(mut self) -> Option<Cut> {
        (!self.buffer.is_empty() || self.number == 0).then(|| self.cut())
    }

    fn cut(&mut self) -> Cut {
        let number = self.number;
        self.number += 1;
        Cut {
            archive: self.archive,
            number,
            bytes: std::mem::take(&mut self.buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slices(plain: &[u8], portions: &[usize], size: usize) -> Vec<Vec<u8>> {
        let mut slicer = Slicer::new(TarArchive::Base, size);
        let mut portions = portions.iter().cycle();
        let mut rest = Bytes::copy_from_slice(plain);
        let mut found = Vec::new();
        while !rest.is_empty() {
            let next = (*portions.next().unwrap()).min(rest.len());
            let mut portion = rest.split_to(next);
            while !portion.is_empty() {
                found.extend(slicer.push(&mut portion));
            }
        }
        found.extend(slicer.finish());
        let numbers: Vec<u32> = found.iter().map(|cut| cut.number).collect();
        assert_eq!(numbers, (0..).take(found.len()).collect::<Vec<u32>>());
        found.into_iter().map(|cut| cut.bytes).collect()
    }

    proptest! {
        #[test]
        fn any_portions_give_the_same_slices(
            plain in prop::collection::vec(any::<u8>(), 0..5000),
            mut portions in prop::collection::vec(0_usize..3000, 1..20),
            size in 1_usize..1500,
        ) {
            // At least one that is not empty, or nothing ever arrives.
            portions.push(1);
            let found = slices(&plain, &portions, size);
            let expected: Vec<Vec<u8>> = match plain.len() {
                0 => vec![Vec::new()],
                _ => plain.chunks(size).map(<[u8]>::to_vec).collect(),
            };
            prop_assert_eq!(found, expected);
        }
    }
}
