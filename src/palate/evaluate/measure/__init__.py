"""What `palate eval` measures of a model beside its base, one file for each kind of figure."""
