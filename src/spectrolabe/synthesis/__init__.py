"""Ab initio spectra: model atmospheres, opacity and transfer in LTE."""
