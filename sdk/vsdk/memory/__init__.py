"""The memory of a stream: a recurrent bridge over its segments, with a cache that never outgrows its slots."""
