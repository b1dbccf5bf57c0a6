//! How the layers of an image are compressed that goes out: flags with buildx's names; `--compression-format` is podman's.

use layer_store::{Compression, Encoding};
use oci::LayerCompression;

use crate::ending::Ending;
use crate::shown::shown;

#[derive(Debug, clap::Args)]
pub(crate) struct CompressionArgs {
    /// How layers that were built here are compressed
    #[arg(long, alias = "compression-format", value_name = "gzip|zstd|uncompressed", default_value = "gzip",
          hide_default_value = true, value_parser = format)]
    compression: LayerCompression,
    /// From 1 (quick) to 9 (small) for gzip, to 19 for zstd [default: what is worth its time]
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<u8>,
    /// Compress layers of base images and of pulled ones too, unless they have that format and no level is given
    #[arg(long)]
    force_compression: bool,
}

impl CompressionArgs {
    /// Returns what they mean.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`] when the format has no such level.
    pub(crate) fn compression(&self) -> Result<Compression, Ending> {
        let encoding = Encoding::new(self.compression, self.compression_level);
        let encoding = encoding.map_err(|error| Ending::usage(format!("`--compression-level`: {error}")))?;
        Ok(Compression { encoding, is_forced: self.force_compression })
    }
}

fn format(text: &str) -> Result<LayerCompression, String> {
    match text {
        "gzip" => Ok(LayerCompression::Gzip),
        "zstd" => Ok(LayerCompression::Zstd),
        "uncompressed" => Ok(LayerCompression::None),
        "estargz" | "zstd:chunked" => Err(format!("`{text}` is not built: `gzip`, `zstd` or `uncompressed`")),
        other => Err(format!("`{}` is none of `gzip`, `zstd` and `uncompressed`", shown(other))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Flags {
        #[command(flatten)]
        args: CompressionArgs,
    }

    fn parse(args: &str) -> Result<(String, bool), String> {
        let parsed = Flags::try_parse_from(std::iter::once("push").chain(args.split_whitespace()));
        let compression =
            parsed.map_err(|error| error.to_string())?.args.compression().map_err(|error| error.to_string())?;
        Ok((compression.encoding.to_string(), compression.is_forced))
    }

    #[test]
    fn formats_and_levels_are_buildxs_or_refused_with_the_reason() {
        for (args, encoding, is_forced) in [
            ("", "gzip", false),
            ("--compression zstd", "zstd:3", false),
            ("--compression-format=zstd --compression-level=19 --force-compression", "zstd:19", true),
            ("--compression-level 9", "gzip:9", false),
            ("--compression uncompressed --force-compression", "uncompressed", true),
        ] {
            assert_eq!(parse(args), Ok((encoding.to_owned(), is_forced)), "{args}");
        }
        for (args, reason) in [
            ("--compression estargz", "`estargz` is not built: `gzip`, `zstd` or `uncompressed`"),
            ("--compression xz", "`xz` is none of `gzip`, `zstd` and `uncompressed`"),
            ("--compression-level 0", "`--compression-level`: gzip has the levels 1 to 9, not 0"),
            ("--compression zstd --compression-level 22", "`--compression-level`: zstd has the levels 1 to 19, not 22"),
            (
                "--compression uncompressed --compression-level 1",
                "`--compression-level`: layers that are not compressed have no level",
            ),
            ("--compression-level 300", "300 is not in 0..=255"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(reason), "{args}: {error}");
        }
    }
}
