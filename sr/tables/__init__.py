"""Look-up tables that enlarge pictures: SR-LUT, MuLUT, SPF-LUT with DFC and AutoLUT from one definition.

A table network (:mod:`dcae.sr.tables.config`) trains as small networks of four inputs each
(:mod:`dcae.sr.tables.network`, :mod:`dcae.sr.tables.task`), is exported to tables of signed bytes
(:mod:`dcae.sr.tables.tablefile`), and enlarges by look-up in integers (:mod:`dcae.sr.tables.upscaler`), with the same
result on every machine. docs/sr-tables.md has the rules.
"""
