"""Labels on one scale: trends found with stars whose labels are known from elsewhere."""
